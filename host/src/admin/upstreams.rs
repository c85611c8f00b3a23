//! The upstreams as operators see them, and what they may change while the gateway runs.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admin::parameters::{object, unknown_field};
use crate::config::{ModelMatch, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Gateway;
use crate::snapshot::Snapshot;
use crate::upstream::Adjustment;
use crate::upstream::breaker::Standing;

/// The highest weight, as in the file.
const WEIGHT_MAX: u64 = 1_000_000;

/// What a request wants changed: outer none leaves a setting as it is, inner none gives it back to the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    is_enabled: Option<Option<bool>>,
    weight: Option<Option<u32>>,
}

impl Change {
    fn parse(body: &[u8]) -> Result<Self> {
        let mut change = Self::default();
        for (name, value) in object(body)? {
            match &*name {
                "enabled" => change.is_enabled = Some(enabled(&value)?),
                "weight" => change.weight = Some(weight(&value)?),
                _ => return Err(unknown_field(&name)),
            }
        }
        if change == Self::default() {
            let message = "nothing is to be changed; give `enabled` or `weight`";
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        Ok(change)
    }

    fn apply(self, before: Adjustment) -> Adjustment {
        Adjustment {
            is_enabled: self.is_enabled.unwrap_or(before.is_enabled),
            priority: self.weight.unwrap_or(before.priority),
        }
    }
}

fn enabled(value: &Value) -> Result<Option<bool>> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(is_enabled) => Ok(Some(*is_enabled)),
        _ => Err(Error::invalid("enabled", "`enabled` must be `true`, `false` or `null`")),
    }
}

fn weight(value: &Value) -> Result<Option<u32>> {
    if value.is_null() {
        return Ok(None);
    }
    let weight =
        value.as_u64().filter(|weight| *weight <= WEIGHT_MAX).and_then(|weight| u32::try_from(weight).ok());
    let refuse = || {
        Error::invalid("weight", format!("`weight` must be a whole number from 0 to {WEIGHT_MAX}, or `null`"))
    };
    weight.map(Some).ok_or_else(refuse)
}

/// All upstreams, in the order of the configuration.
pub(super) fn list(snapshot: &Snapshot) -> Value {
    let upstreams: Vec<Value> =
        (0..snapshot.upstreams.len()).map(|index| describe(snapshot, index)).collect();
    json!({"upstreams": upstreams})
}

/// Changes one upstream, and says how it stands then.
///
/// # Errors
///
/// `InvalidRequest` for a body that asks for nothing or nonsense, `UnknownPath` when no upstream has that name.
pub(super) async fn adjust(gateway: &Arc<Gateway>, name: &str, body: &[u8]) -> Result<Value> {
    let change = Change::parse(body)?;
    let adjusted = gateway.reloader.adjust(gateway, name, |before| change.apply(before)).await;
    let found = adjusted.and_then(|snapshot| {
        let index = snapshot.upstreams.iter().position(|upstream| &*upstream.settings.name == name)?;
        Some(describe(&snapshot, index))
    });
    found.ok_or_else(|| Error::new(ErrorKind::UnknownPath, format!("there is no upstream `{name}`")))
}

fn describe(snapshot: &Snapshot, index: usize) -> Value {
    let upstream = &snapshot.upstreams[index];
    let (settings, state) = (&upstream.settings, &upstream.state);
    let has_answered = !state.latency().is_zero();
    json!({
        "name": &*settings.name,
        "base_url": match &settings.target {
            Target::Http(base) => base.to_string(),
            Target::Echo => "builtin:echo".to_owned(),
        },
        "dialect": settings.dialect.label(),
        "match": model_match(&settings.model_match),
        "priority": snapshot.config.upstreams[index].priority,
        "weight": settings.priority,
        "enabled": settings.is_enabled,
        "overridden": upstream.adjustment != Adjustment::default(),
        "condition": state.condition().name(),
        "breaker": standing(upstream.breaker_standing()),
        "keys": upstream.key_standings().into_iter().map(standing).collect::<Vec<_>>(),
        "in_flight": state.in_flight(),
        "max_in_flight": settings.max_in_flight,
        "waiting": state.places.waiting(),
        "latency_ms": has_answered.then(|| state.latency().as_secs_f64() * 1e3),
        "requests": state.attempts(),
        "failures": state.failures(),
    })
}

/// A breaker, of an upstream or of one of its keys.
fn standing(standing: Standing) -> Value {
    json!({
        "state": standing.condition.name(),
        "failures": standing.failures,
        "opens_in_ms": u64::try_from(standing.opens_in.as_millis()).unwrap_or(u64::MAX),
        "trips": standing.trips,
    })
}

fn model_match(models: &ModelMatch) -> Value {
    let (kind, value): (_, &[String]) = match models {
        ModelMatch::Exact(names) => ("exact", names),
        ModelMatch::Keyword(words) => ("keyword", words),
        ModelMatch::Prefix(prefixes) => ("prefix", prefixes),
        ModelMatch::Any => ("any", &[]),
    };
    json!({"type": kind, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<Change, &str>) {
        match (Change::parse(body.as_bytes()), expected) {
            (Ok(change), Ok(expected)) => assert_eq!(change, expected, "{body}"),
            (Err(error), Err(word)) => assert!(error.message.contains(word), "{body}: {error}"),
            (change, expected) => panic!("{body}: {change:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_change_says_what_is_set_and_what_goes_back() {
        let change = |is_enabled, weight| Ok(Change { is_enabled, weight });
        check(r#"{"enabled":false}"#, change(Some(Some(false)), None));
        check(r#"{"enabled":null,"weight":3}"#, change(Some(None), Some(Some(3))));
        check(r#"{"weight":null}"#, change(None, Some(None)));
        check(r#"{"weight":0}"#, change(None, Some(Some(0))));
        check(r#"{"weight":1000000}"#, change(None, Some(Some(1_000_000))));
    }

    #[test]
    fn nonsense_is_named() {
        check("", Err("nothing"));
        check("{}", Err("nothing"));
        check("[]", Err("object"));
        check("{", Err("not valid JSON"));
        check(r#"{"enabled":"yes"}"#, Err("`enabled`"));
        check(r#"{"weight":-1}"#, Err("`weight`"));
        check(r#"{"weight":1.5}"#, Err("`weight`"));
        check(r#"{"weight":1000001}"#, Err("`weight`"));
        check(r#"{"enabled":true,"colour":1}"#, Err("`colour`"));
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let before = Adjustment { is_enabled: Some(false), priority: Some(2) };
        let change = Change { is_enabled: None, weight: Some(None) };
        assert_eq!(change.apply(before), Adjustment { is_enabled: Some(false), priority: None });
    }
}

//! Why a request would go where it would go now.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::admin::parameters::Query;
use crate::auth::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::route::explain::{Explanation, explain};
use crate::route::{Choice, Keying, Routes};
use crate::snapshot::Snapshot;
use crate::wire::{Endpoint, request};

/// Explains a chat of one user message.
///
/// # Errors
///
/// `InvalidRequest` without a model, or with a parameter that does not exist.
pub(super) fn of_text(snapshot: &Snapshot, mut query: Query) -> Result<Value> {
    let model = query.take("model")?.ok_or_else(|| Error::invalid("model", "give a `model`"))?;
    let text = query.take("text")?.unwrap_or_default();
    let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
    of_body(snapshot, query, body.to_string().into())
}

/// Explains a request by its body: a chat, a completion or an embedding.
///
/// # Errors
///
/// `InvalidRequest` for what no client could send either, or for a parameter that does not exist.
pub(super) fn of_body(snapshot: &Snapshot, mut query: Query, body: Bytes) -> Result<Value> {
    let (tenant, key) = (query.take("tenant")?, query.take("key")?);
    query.finish()?;
    let account = key.map(|key| account(snapshot, &key)).transpose()?;
    let of_key = account.and_then(|account| account.tenant.as_deref().map(str::to_owned));
    let tenant = tenant.or(of_key).unwrap_or_default();
    let endpoint =
        Endpoint::guess(&body).map_err(|message| Error::new(ErrorKind::InvalidRequest, message))?;
    let request = request::decode(endpoint, body, None)?;
    let keying = Keying { tenant: &tenant, model: request.model() };
    // Routes of its own: to look takes no turn, and leaves no name in the cache.
    let mut members = snapshot.routes.members().to_vec();
    let may_use = |name: &str| may_use(account, keying.model, name);
    members.iter_mut().for_each(|member| member.is_enabled &= may_use(&member.name));
    let routes = Routes::with_members(members, snapshot.routes.routing());
    let in_flight = |index: usize| snapshot.upstreams[index].state.in_flight();
    let explanation = explain(&routes, keying, &request.prompt(true), in_flight);
    Ok(describe(snapshot, endpoint, keying, &explanation, may_use))
}

fn account<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Account> {
    let mut keys = snapshot.config.keys.iter().flat_map(|keys| keys.all.iter());
    let key = keys.find(|key| *key.account.name == *name);
    key.map(|key| &*key.account).ok_or_else(|| Error::invalid("key", format!("there is no key `{name}`")))
}

/// Whether a key, if it is one's, lets an upstream answer for a model.
fn may_use(account: Option<&Account>, model: &str, upstream: &str) -> bool {
    account.is_none_or(|account| account.may_use_model(model) && account.may_use_upstream(upstream))
}

fn describe(
    snapshot: &Snapshot,
    endpoint: Endpoint,
    keying: Keying<'_>,
    explanation: &Explanation,
    may_use: impl Fn(&str) -> bool,
) -> Value {
    let Explanation { strategy, anchor, choices } = explanation;
    let name = |choice: &Choice| &*snapshot.upstreams[choice.upstream].settings.name;
    let candidates: Vec<Value> = choices.iter().map(|choice| candidate(snapshot, choice)).collect();
    let is_candidate = |index: usize| choices.iter().any(|choice| choice.upstream == index);
    let others: Vec<Value> = (0..snapshot.upstreams.len())
        .filter(|index| !is_candidate(*index))
        .map(|index| {
            let settings = &snapshot.upstreams[index].settings;
            let reason = match settings.is_enabled {
                false => "it is disabled",
                true if settings.accepts(keying.model) && !may_use(&settings.name) => {
                    "it is not for this key"
                }
                true => "it does not take this model",
            };
            json!({"upstream": &*settings.name, "reason": reason})
        })
        .collect();
    json!({
        "endpoint": endpoint.label(),
        "model": keying.model,
        "tenant": keying.tenant,
        "strategy": strategy.name(),
        "anchor": anchor.ok().map(|anchor| anchor.to_string()),
        "no_anchor": anchor.err(),
        "choice": choices.first().map(name),
        "candidates": candidates,
        "others": others,
    })
}

fn candidate(snapshot: &Snapshot, choice: &Choice) -> Value {
    let upstream = &snapshot.upstreams[choice.upstream];
    let (settings, in_flight) = (&upstream.settings, upstream.state.in_flight());
    json!({
        "upstream": &*settings.name,
        "weight": settings.priority,
        "tier": choice.tier,
        "standing": choice.standing,
        "score": choice.score,
        "enabled": settings.is_enabled,
        "condition": upstream.state.condition().name(),
        "in_flight": in_flight,
        "max_in_flight": settings.max_in_flight,
        "full": settings.max_in_flight > 0 && in_flight >= settings.max_in_flight,
    })
}

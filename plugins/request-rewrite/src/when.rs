//! Whether a rule is for a request.

use std::cell::OnceCell;

use witgate_sdk::{Call, glob};

use crate::json;
use crate::settings::{Condition, When};

/// What rules ask again and again about a request, fetched from the host at most once.
pub(crate) struct Request<'a> {
    pub(crate) call: &'a Call,
    model: OnceCell<String>,
    operation: OnceCell<String>,
    tenant: OnceCell<Option<String>>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(call: &'a Call) -> Self {
        Self { call, model: OnceCell::new(), operation: OnceCell::new(), tenant: OnceCell::new() }
    }

    fn model(&self) -> &str {
        self.model.get_or_init(|| self.call.model())
    }

    fn operation(&self) -> &str {
        self.operation.get_or_init(|| self.call.operation())
    }

    fn tenant(&self) -> Option<&str> {
        self.tenant.get_or_init(|| self.call.tenant()).as_deref()
    }

    /// What the rules that follow see.
    pub(crate) fn rename_model(&mut self, model: &str) {
        self.model = model.to_owned().into();
    }
}

impl When {
    /// Says whether all of it is true of a request.
    pub(crate) fn holds(&self, request: &Request<'_>) -> bool {
        let call = request.call;
        is_any(&self.models, || Some(request.model()))
            && is_any(&self.operations, || Some(request.operation()))
            && is_any(&self.tenants, || request.tenant())
            && self.stream.is_none_or(|stream| stream == call.is_stream())
            && self
                .headers
                .iter()
                .all(|(name, pattern)| call.header(name).is_some_and(|value| glob::matches(pattern, &value)))
            && self.body.iter().all(|condition| condition.holds(call))
    }
}

/// Says whether a text matches one of the patterns; it is not fetched when there are none.
fn is_any<'a>(patterns: &[String], text: impl FnOnce() -> Option<&'a str>) -> bool {
    patterns.is_empty()
        || text().is_some_and(|text| patterns.iter().any(|pattern| glob::matches(pattern, text)))
}

impl Condition {
    fn holds(&self, call: &Call) -> bool {
        let value = call.get(&self.pointer);
        if let Some(expected) = &self.equals {
            return value.is_some_and(|value| json::is_same(&value, expected.text()));
        }
        if let Some(pattern) = &self.glob {
            return value
                .and_then(|value| json::scalar(&value))
                .is_some_and(|text| glob::matches(pattern, &text));
        }
        self.exists == Some(value.is_some())
    }
}

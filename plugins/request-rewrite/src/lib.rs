//! Edits or refuses requests by rule: system prompt, model, parameters, headers.
//!
//! A rule's `when` says which requests it is for, its `then` what is done. Everything is in the client's dialect but the
//! system prompt, which the gateway knows the place of in every dialect.

mod check;
mod glob;
mod json;
mod settings;
mod then;
mod when;

use settings::{Rule, Settings};
use when::Request;
use witgate_sdk::{Call, Flow, OnRequest, Plugin, Rejection, export};

struct RequestRewrite {
    rules: Vec<Rule>,
}

export!(RequestRewrite: OnRequest);

impl Plugin for RequestRewrite {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        check::settings(&settings)?;
        Ok(Self { rules: settings.rules })
    }
}

impl OnRequest for RequestRewrite {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        let mut request = Request::new(call);
        for rule in &self.rules {
            if rule.when.holds(&request) {
                rule.then.apply(&mut request)?;
                if rule.stop {
                    break;
                }
            }
        }
        Ok(Flow::Next)
    }
}

//! Edits or refuses requests by rule: system prompt, model, parameters, headers.
//!
//! A rule's `when` says which requests it is for, its `then` what is done. Everything is in the client's dialect but the
//! system prompt, which the gateway knows the place of in every dialect.

mod check;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_sdk::testkit::Kit;

    use super::*;

    fn kit(rules: &Value) -> Kit<RequestRewrite> {
        Kit::new(json!({ "rules": rules }))
    }

    /// The document after rules that are one `then` each.
    #[track_caller]
    fn check(thens: &[Value], request: Value, expected: &Value) {
        let rules: Vec<Value> = thens.iter().map(|then| json!({ "then": then })).collect();
        let kit = kit(&json!(rules)).request(request);
        kit.on_request().unwrap();
        assert_eq!(kit.document(), *expected);
    }

    fn message(role: &str, text: &str) -> Value {
        json!({ "role": role, "content": text })
    }

    fn chat(messages: &[Value]) -> Value {
        json!({ "messages": messages })
    }

    #[test]
    fn fields_are_edited() {
        check(
            &[json!({ "set": { "/a": 1, "/b/c": null } })],
            json!({ "a": 2 }),
            &json!({ "a": 1, "b": { "c": null } }),
        );
        check(
            &[json!({ "default": { "/a": 1, "/b": 1 } })],
            json!({ "a": null }),
            &json!({ "a": null, "b": 1 }),
        );
        check(&[json!({ "remove": ["/a", "/b"] })], json!({ "a": 2, "c": 3 }), &json!({ "c": 3 }));
        let clamp = json!({ "clamp": { "/a": { "max": 1 }, "/b": { "min": 0.5 }, "/c": { "max": 1 } } });
        check(&[clamp], json!({ "a": 2, "b": 0.1 }), &json!({ "a": 1, "b": 0.5 }));
        // Within a rule a field can be removed and set anew, and what was set is within bounds.
        let then =
            json!({ "remove": ["/a"], "set": { "/a": { "b": 5 } }, "clamp": { "/a/b": { "max": 4 } } });
        check(&[then], json!({ "a": { "c": 1 } }), &json!({ "a": { "b": 4 } }));
    }

    #[test]
    fn rules_see_what_those_before_them_did() {
        let rules = json!([
            { "when": { "models": ["gpt-4*"] }, "then": { "model": "small" } },
            { "when": { "models": ["gpt-4*"] }, "then": { "set": { "/wrong": true } } },
            { "when": { "models": ["small"], "body": [{ "pointer": "/model", "equals": "small" }] },
              "then": { "tag": { "downgraded": "yes" } } },
        ]);
        let kit = kit(&rules).request(json!({ "model": "gpt-4o" }));
        kit.on_request().unwrap();
        assert_eq!(kit.document(), json!({ "model": "small" }));
        assert_eq!(kit.call().model(), "small");
        assert_eq!(kit.tags()["downgraded"], "yes");
    }

    #[test]
    fn a_rule_can_be_the_last() {
        let rules = json!([
            { "when": { "tenants": ["vip"] }, "stop": true },
            { "then": { "set": { "/a": 1 } } },
        ]);
        for (tenant, expected) in [("vip", json!({})), ("other", json!({ "a": 1 }))] {
            let kit = kit(&rules).request(json!({})).tenant(tenant);
            kit.on_request().unwrap();
            assert_eq!(kit.document(), expected);
        }
    }

    #[test]
    fn all_of_when_must_be_true() {
        #[track_caller]
        fn check(when: Value, expected: bool) {
            let kit = kit(&json!([{ "when": when, "then": { "tag": { "hit": "" } } }]))
                .request(
                    json!({ "model": "m", "stream": true, "n": 2, "user": "u-1", "stop": null, "list": [1] }),
                )
                .header("X-Team", "intern-7")
                .tenant("acme")
                .operation("chat.completions");
            kit.on_request().unwrap();
            assert_eq!(kit.tags().contains_key("hit"), expected, "{when}");
        }
        check(json!({}), true);
        check(
            json!({ "models": ["x", "m"], "operations": ["chat.*"], "tenants": ["ac*"], "stream": true }),
            true,
        );
        check(json!({ "models": ["x"] }), false);
        check(json!({ "operations": ["embeddings"] }), false);
        check(json!({ "tenants": ["other"] }), false);
        check(json!({ "stream": false }), false);
        check(json!({ "headers": { "x-team": "intern-*", "X-TEAM": "*7" } }), true);
        check(json!({ "headers": { "x-team": "intern" } }), false);
        check(json!({ "headers": { "x-none": "*" } }), false);
        let body = |condition| json!({ "body": [condition] });
        check(body(json!({ "pointer": "/n", "equals": 2.0 })), true);
        check(body(json!({ "pointer": "/n", "equals": "2" })), false);
        check(body(json!({ "pointer": "/none", "equals": null })), false);
        check(body(json!({ "pointer": "/stop", "equals": null })), true);
        check(body(json!({ "pointer": "/stop", "exists": true })), true);
        check(body(json!({ "pointer": "/none", "exists": false })), true);
        check(body(json!({ "pointer": "/none", "exists": true })), false);
        check(body(json!({ "pointer": "/user", "glob": "u-*" })), true);
        check(body(json!({ "pointer": "/n", "glob": "2" })), true);
        check(body(json!({ "pointer": "/list", "glob": "*" })), false);
        check(json!({ "models": ["m"], "stream": false }), false);
    }

    #[test]
    fn a_caller_without_a_tenant_matches_none() {
        let kit = kit(&json!([{ "when": { "tenants": ["*"] }, "then": { "tag": { "hit": "" } } }]));
        kit.on_request().unwrap();
        assert!(kit.tags().is_empty());
    }

    #[test]
    fn a_system_prompt_is_added_to() {
        let then = [json!({ "system": { "prepend": "a", "append": "c" } })];
        let user = message("user", "hi");
        check(
            &then,
            chat(&[message("system", "b"), user.clone()]),
            &chat(&[message("system", "a\n\nb\n\nc"), user.clone()]),
        );
        check(&then, chat(&[message("developer", "b")]), &chat(&[message("developer", "a\n\nb\n\nc")]));
        check(&then, chat(std::slice::from_ref(&user)), &chat(&[message("system", "a\n\nc"), user.clone()]));
        let then = [json!({ "system": { "prepend": "a", "separator": " " } })];
        check(&then, chat(&[user.clone(), message("system", "b")]), &chat(&[user, message("system", "a b")]));
    }

    #[test]
    fn a_system_prompt_is_replaced_wherever_it_is() {
        let then = [json!({ "system": { "replace": "new" } })];
        let user = message("user", "hi");
        let new = message("system", "new");
        let scattered =
            [message("system", "a"), user.clone(), message("developer", "b"), message("system", "c")];
        check(&then, chat(&scattered), &chat(&[new.clone(), user.clone()]));
        check(&then, chat(std::slice::from_ref(&user)), &chat(&[new, user]));
        // Without a conversation there is no prompt.
        check(&then, json!({ "input": [1] }), &json!({ "input": [1] }));
    }

    #[test]
    fn a_request_is_refused_with_its_labels() {
        let reject = json!({ "status": 451, "code": "not_here", "message": "no" });
        let kit = kit(&json!([{ "then": { "reject": reject, "tag": { "refused": "yes" } } }]));
        assert_eq!(kit.on_request().unwrap_err(), Rejection::new(451, "not_here", "no"));
        assert_eq!(kit.tags()["refused"], "yes");
        let kit = self::kit(&json!([{ "then": { "reject": { "message": "no" } } }]));
        assert_eq!(kit.on_request().unwrap_err(), Rejection::new(403, "request_rejected", "no"));
    }

    #[test]
    fn a_field_without_a_place_is_the_clients_mistake() {
        let kit = kit(&json!([{ "then": { "set": { "/a/b": 1 } } }])).request(json!({ "a": 5 }));
        let no = kit.on_request().unwrap_err();
        assert_eq!((no.status, no.code.as_str()), (400, "invalid_request"));
        assert!(no.message.starts_with("`/a/b` cannot be set: "), "{}", no.message);
        assert_eq!(kit.document(), json!({ "a": 5 }));
    }

    #[test]
    fn a_form_has_no_fields() {
        let then = json!({ "set": { "/a": 1 }, "remove": ["/b"], "headers": { "set": { "x-a": "1" } } });
        let kit = kit(&json!([{ "then": then }])).without_document();
        kit.on_request().unwrap();
        assert_eq!(kit.call().header("x-a").as_deref(), Some("1"));
    }

    #[test]
    fn headers_are_edited() {
        let headers = json!({ "remove": ["X-Old", "x-none"], "set": { "x-team": "b" } });
        let kit =
            kit(&json!([{ "then": { "headers": headers } }])).header("x-old", "1").header("x-team", "a");
        kit.on_request().unwrap();
        assert_eq!(kit.call().headers(), [("x-team".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn the_schema_describes_the_rules() {
        let schema = Kit::<RequestRewrite>::schema();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema.pointer("/properties/rules/minItems"), Some(&json!(1)));
        let status = "/properties/rules/items/properties/then/properties/reject/properties/status/minimum";
        assert_eq!(schema.pointer(status), Some(&json!(400)));
    }
}

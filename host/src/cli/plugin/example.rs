//! A small working example of each hook, for `witgate plugin new`.
//!
//! `$` stands for the name of the plugin's type. Every setting has a default, so that an example runs as it is.

use crate::plugin::hook::Hook;

/// An example of one hook.
pub(super) struct Example {
    /// What it imports from the SDK, its own trait included.
    pub(super) imports: &'static [&'static str],
    /// What its tests import from the SDK's test kit beside `Kit`.
    pub(super) test_imports: &'static [&'static str],
    /// What it is configured with.
    pub(super) setting: Setting,
    /// The hook.
    pub(super) code: &'static str,
    /// Its tests.
    pub(super) tests: &'static str,
}

/// What an example is configured with.
pub(super) struct Setting {
    /// The name of the field.
    pub(super) name: &'static str,
    /// Its lines in the type, with comment and attributes.
    pub(super) field: &'static str,
    /// Its default, in Rust.
    pub(super) default: &'static str,
    /// Its default, in JSON.
    pub(super) json: &'static str,
    /// A check of its own, in `new`.
    pub(super) check: &'static str,
}

/// The example of a hook.
pub(super) fn of(hook: Hook) -> &'static Example {
    match hook {
        Hook::Authenticate => &AUTHENTICATE,
        Hook::OnRequest => &ON_REQUEST,
        Hook::OnRoute => &ON_ROUTE,
        Hook::OnUpstreamRequest => &ON_UPSTREAM_REQUEST,
        Hook::OnResponse => &ON_RESPONSE,
        Hook::StreamText => &STREAM_TEXT,
        Hook::StreamEvents => &STREAM_EVENTS,
        Hook::OnError => &ON_ERROR,
        Hook::OnComplete => &ON_COMPLETE,
        Hook::OnTick => &ON_TICK,
    }
}

/// The trait of a hook in the SDK, which `export!` names.
pub(super) fn trait_of(hook: Hook) -> &'static str {
    match hook {
        Hook::Authenticate => "Authenticate",
        Hook::OnRequest => "OnRequest",
        Hook::OnRoute => "OnRoute",
        Hook::OnUpstreamRequest => "OnUpstreamRequest",
        Hook::OnResponse => "OnResponse",
        Hook::StreamText => "StreamText",
        Hook::StreamEvents => "StreamEvents",
        Hook::OnError => "OnError",
        Hook::OnComplete => "OnComplete",
        Hook::OnTick => "OnTick",
    }
}

const AUTHENTICATE: Example = Example {
    imports: &["Authenticate", "Head", "Principal", "Rejection"],
    test_imports: &[],
    setting: Setting {
        name: "teams",
        field: "    /// Who may call: the values of the header `x-team` that are known.\n    teams: Vec<String>,\n",
        default: "vec![\"research\".to_owned()]",
        json: "[research]",
        check: "",
    },
    code: r#"
impl Authenticate for $ {
    fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection> {
        // Without the header it is not this plugin's kind of caller: the next one is asked.
        let Some(team) = head.header("x-team") else { return Ok(None) };
        if self.settings.teams.iter().any(|known| known == team) {
            Ok(Some(Principal::new(team).tenant(team)))
        } else {
            Err(Rejection::new(401, "invalid_api_key", "this team is not known"))
        }
    }
}
"#,
    tests: r#"
    #[test]
    fn a_known_team_is_named_and_another_one_refused() {
        let kit = || Kit::<$>::new(json!({ "teams": ["research"] }));
        let caller = kit().header("x-team", "research").authenticate().unwrap().unwrap();
        assert_eq!(caller.name, "research");
        assert_eq!(kit().header("x-team", "sales").authenticate().unwrap_err().status, 401);
        assert!(kit().authenticate().unwrap().is_none());
    }
"#,
};

const ON_REQUEST: Example = Example {
    imports: &["Call", "Flow", "OnRequest", "Rejection"],
    test_imports: &[],
    setting: Setting {
        name: "system_prompt",
        field: "    /// The system prompt of conversations that have none.\n    #[config(min_length = 1)]\n    system_prompt: String,\n",
        default: "\"Answer briefly.\".to_owned()",
        json: "Answer briefly.",
        check: "",
    },
    code: r#"
impl OnRequest for $ {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        let has_one = call.messages().iter().any(|message| message.role == "system");
        if !has_one {
            call.insert_message(0, "system", &self.settings.system_prompt)?;
            call.tag("system_prompt", "added");
        }
        Ok(Flow::Next)
    }
}
"#,
    tests: r#"
    #[test]
    fn a_conversation_without_a_system_prompt_gets_one() {
        let kit = Kit::<$>::new(json!({ "system_prompt": "Be kind." }))
            .request(json!({ "messages": [{ "role": "user", "content": "Hi" }] }));
        kit.on_request().unwrap();
        assert_eq!(kit.document()["messages"][0]["content"], "Be kind.");
        assert_eq!(kit.tags()["system_prompt"], "added");
    }

    #[test]
    fn the_callers_own_system_prompt_stays() {
        let request = json!({ "messages": [{ "role": "system", "content": "Rhyme." }] });
        let kit = Kit::<$>::new(json!({})).request(request.clone());
        kit.on_request().unwrap();
        assert_eq!(kit.document(), request);
    }
"#,
};

const ON_ROUTE: Example = Example {
    imports: &["Call", "Candidate", "Hint", "OnRoute", "Rejection"],
    test_imports: &["candidate"],
    setting: Setting {
        name: "favourite",
        field: "    /// The upstream that is tried first.\n    favourite: String,\n",
        default: "\"echo\".to_owned()",
        json: "echo",
        check: "",
    },
    code: r#"
impl OnRoute for $ {
    fn on_route(&self, _: &Call, candidates: &[Candidate]) -> Result<Hint, Rejection> {
        let favourite = candidates.iter().find(|candidate| candidate.id == self.settings.favourite);
        Ok(match favourite {
            Some(favourite) if favourite.healthy => Hint::Prefer(vec![favourite.id.clone()]),
            _ => Hint::NoOpinion,
        })
    }
}
"#,
    tests: r#"
    #[test]
    fn the_favourite_is_tried_first() {
        let kit = Kit::<$>::new(json!({ "favourite": "b" }));
        let hint = kit.on_route(&[candidate("a"), candidate("b")]).unwrap();
        assert_eq!(hint, Hint::Prefer(vec!["b".to_owned()]));
        assert_eq!(kit.on_route(&[candidate("a")]).unwrap(), Hint::NoOpinion);
    }
"#,
};

const ON_UPSTREAM_REQUEST: Example = Example {
    imports: &["Call", "OnUpstreamRequest", "Rejection", "UpstreamFlow"],
    test_imports: &[],
    setting: Setting {
        name: "source",
        field: "    /// The value of the header `x-source` that every upstream is sent.\n    source: String,\n",
        default: "\"witgate\".to_owned()",
        json: "witgate",
        check: "",
    },
    code: r#"
impl OnUpstreamRequest for $ {
    fn on_upstream_request(&self, call: &Call) -> Result<UpstreamFlow, Rejection> {
        call.set_header("x-source", &self.settings.source)?;
        Ok(UpstreamFlow::Next)
    }
}
"#,
    tests: r#"
    #[test]
    fn an_upstream_is_told_the_source() {
        let kit = Kit::<$>::new(json!({ "source": "lab" })).upstream("a", 1);
        kit.on_upstream_request().unwrap();
        assert_eq!(kit.call().header("x-source").as_deref(), Some("lab"));
    }
"#,
};

const ON_RESPONSE: Example = Example {
    imports: &["Call", "OnResponse", "Rejection", "ResponseFlow"],
    test_imports: &[],
    setting: Setting {
        name: "removed_fields",
        field: "    /// JSON Pointers to what clients are not to see of whole answers.\n    removed_fields: Vec<String>,\n",
        default: "vec![\"/system_fingerprint\".to_owned()]",
        json: "[/system_fingerprint]",
        check: "",
    },
    code: r#"
impl OnResponse for $ {
    fn on_response(&self, call: &Call, _: u16) -> Result<ResponseFlow, Rejection> {
        // At the head of a stream there is no document: its events come later, and go to `StreamEvents`.
        if call.body_len() > 0 {
            for field in &self.settings.removed_fields {
                call.remove(field)?;
            }
        }
        Ok(ResponseFlow::Next)
    }
}
"#,
    tests: r#"
    #[test]
    fn what_clients_are_not_to_see_is_removed() {
        let kit = Kit::<$>::new(json!({ "removed_fields": ["/secret"] }))
            .response(200, json!({ "id": "1", "secret": "x" }));
        kit.on_response().unwrap();
        assert_eq!(kit.document(), json!({ "id": "1" }));
    }
"#,
};

const STREAM_TEXT: Example = Example {
    imports: &["Call", "Lanes", "Opened", "Out", "StreamText", "TextFilter"],
    test_imports: &[],
    setting: Setting {
        name: "word",
        field: "    /// The word that becomes `***` in answers.\n    #[config(min_length = 1)]\n    word: String,\n",
        default: "\"secret\".to_owned()",
        json: "secret",
        check: r#"        if settings.word.is_empty() {
            return Err("`word` is empty: give the word to hide".to_owned());
        }
"#,
    },
    code: r#"
impl StreamText for $ {
    type Stream = Lanes<Hide>;
    fn open(&self, _: &Call) -> Option<Opened<Lanes<Hide>>> {
        let word = self.settings.word.clone();
        Some(Opened::new(Lanes::new(move |_| Hide { word: word.clone(), held: String::new() })))
    }
}

/// Hides a word in one text, which comes in pieces.
struct Hide {
    word: String,
    /// What may be the beginning of the word waits here for the next piece.
    held: String,
}

impl TextFilter for Hide {
    fn push(&mut self, text: &str, out: &mut Out) {
        self.held.push_str(text);
        while let Some(at) = self.held.find(&self.word) {
            out.push_str(&self.held[..at]);
            out.push_str("***");
            self.held.drain(..at + self.word.len());
        }
        let mut places = self.held.char_indices().map(|(at, _)| at);
        let safe = places.find(|&at| self.word.starts_with(&self.held[at..]));
        let safe = safe.unwrap_or(self.held.len());
        out.push_str(&self.held[..safe]);
        self.held.drain(..safe);
    }

    fn finish(&mut self, out: &mut Out) {
        out.push_str(&self.held);
    }
}
"#,
    tests: r#"
    #[test]
    fn the_word_is_hidden_however_the_answer_is_cut() {
        let kit = Kit::<$>::new(json!({ "word": "pass" }));
        kit.every_split("my pass is papass", |seen| assert_eq!(seen.content(), "my *** is pa***"));
        kit.every_split("that is all, pas", |seen| assert_eq!(seen.content(), "that is all, pas"));
    }
"#,
};

const STREAM_EVENTS: Example = Example {
    imports: &[
        "Call",
        "EventAction",
        "EventStream",
        "Finish",
        "Rejection",
        "SseEvent",
        "StreamEvents",
        "log",
    ],
    test_imports: &[],
    setting: Setting {
        name: "dropped_events",
        field: "    /// The names of events that clients are not to see.\n    dropped_events: Vec<String>,\n",
        default: "vec![\"ping\".to_owned()]",
        json: "[ping]",
        check: "",
    },
    code: r#"
impl StreamEvents for $ {
    type Stream = Events;
    fn open(&self, _: &Call) -> Option<Events> {
        Some(Events { dropped: self.settings.dropped_events.clone(), seen: 0 })
    }
}

/// The events of one stream.
struct Events {
    dropped: Vec<String>,
    seen: usize,
}

impl EventStream for Events {
    fn push(&mut self, mut events: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        let before = events.len();
        self.seen += before;
        events.retain(|event| event.event.as_ref().is_none_or(|name| !self.dropped.contains(name)));
        // What is not changed goes on as the upstream's very bytes.
        let is_same = events.len() == before;
        Ok(if is_same { EventAction::Unchanged } else { EventAction::Replace(events) })
    }

    fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
        log::info("the stream is over", &[("events", &self.seen.to_string())]);
        Ok(EventAction::Unchanged)
    }
}
"#,
    tests: r#"
    #[test]
    fn unwanted_events_are_dropped() {
        let kit = Kit::<$>::new(json!({ "dropped_events": ["ping"] }));
        let (ping, text) = (SseEvent::new("{}").named("ping"), SseEvent::new("{}"));
        let seen = kit.events(&[vec![ping, text.clone()]], Finish::Stop);
        assert_eq!(seen.events, [text]);
    }
"#,
};

const ON_ERROR: Example = Example {
    imports: &["Call", "ErrorFlow", "Failure", "OnError", "Rejection"],
    test_imports: &["failure"],
    setting: Setting {
        name: "spare",
        field: "    /// The model or upstream that is asked when the conversation is too long for the first.\n    spare: String,\n",
        default: "\"long-context\".to_owned()",
        json: "long-context",
        check: "",
    },
    code: r#"
impl OnError for $ {
    fn on_error(&self, _: &Call, failure: &Failure) -> Result<ErrorFlow, Rejection> {
        Ok(match failure.code.as_str() {
            "context_length_exceeded" => ErrorFlow::Fallback(self.settings.spare.clone()),
            _ => ErrorFlow::Next,
        })
    }
}
"#,
    tests: r#"
    #[test]
    fn a_long_conversation_goes_to_the_spare_model() {
        let kit = Kit::<$>::new(json!({ "spare": "large" }));
        let flow = kit.on_error(&failure(400, "context_length_exceeded")).unwrap();
        assert_eq!(flow, ErrorFlow::Fallback("large".to_owned()));
        assert_eq!(kit.on_error(&failure(503, "overloaded")).unwrap(), ErrorFlow::Next);
    }
"#,
};

const ON_COMPLETE: Example = Example {
    imports: &["AuditRecord", "Labels", "OnComplete"],
    test_imports: &["record"],
    setting: Setting {
        name: "slow_ms",
        field: "    /// From how many milliseconds on an exchange is labelled `slow`.\n    slow_ms: u64,\n",
        default: "10_000",
        json: "10000",
        check: "",
    },
    code: r#"
impl OnComplete for $ {
    fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        let slow_us = self.settings.slow_ms * 1000;
        let slow = batch.into_iter().filter(|record| record.total_us >= slow_us);
        Ok(slow.map(|record| (record.id, vec![("slow".to_owned(), "true".to_owned())])).collect())
    }
}
"#,
    tests: r#"
    #[test]
    fn slow_exchanges_are_labelled() {
        let kit = Kit::<$>::new(json!({ "slow_ms": 500 }));
        let (mut fast, slow) = (record("fast"), record("slow"));
        fast.total_us = 499_999;
        let labels = kit.on_complete(vec![fast, slow]).unwrap();
        assert_eq!(labels, [("slow".to_owned(), vec![("slow".to_owned(), "true".to_owned())])]);
    }
"#,
};

const ON_TICK: Example = Example {
    imports: &["OnTick", "log"],
    test_imports: &[],
    setting: Setting {
        name: "interval_s",
        field: "    /// How often a line is written to the log, in seconds.\n    #[config(minimum = 1)]\n    interval_s: u64,\n",
        default: "60",
        json: "60",
        check: r#"        if settings.interval_s == 0 {
            return Err("`interval_s` is 0: give at least 1".to_owned());
        }
"#,
    },
    code: r#"
impl OnTick for $ {
    fn on_tick(&self, now_unix_ms: u64) {
        if (now_unix_ms / 1000).is_multiple_of(self.settings.interval_s) {
            log::info("still here", &[]);
        }
    }
}
"#,
    tests: r#"
    #[test]
    fn a_line_is_written_at_every_interval() {
        let kit = Kit::<$>::new(json!({ "interval_s": 10 }));
        kit.on_tick(20_500);
        kit.on_tick(21_500);
        assert_eq!(kit.log().len(), 1);
    }
"#,
};

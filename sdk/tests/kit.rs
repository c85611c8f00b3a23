//! A plugin with every hook, run by the test kit.

use std::time::Duration;

use serde_json::{Value, json};
use witgate_sdk::log::Level;
use witgate_sdk::metrics::Counter;
use witgate_sdk::testkit::{Grants, Kit, batch, candidate, failure, record};
use witgate_sdk::{
    AuditRecord, Authenticate, Call, Candidate, Channel, Config, ErrorFlow, EventAction, EventStream,
    Failure, Finish, Flow, Head, Hint, Labels, Lanes, OnComplete, OnError, OnRequest, OnResponse, OnRoute,
    OnTick, OnUpstreamRequest, Opened, Out, Plugin, Principal, Rejection, ResponseFlow, SseEvent,
    StreamEvents, StreamText, SyntheticResponse, TextFilter, UpstreamFlow, Usage, Wake, export, http, kv,
    log, secrets,
};

/// Does a little of everything.
#[derive(Config, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    temperature: f64,
    wake: String,
    moves: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { temperature: 0.2, wake: String::new(), moves: false }
    }
}

struct Everything {
    settings: Settings,
    hits: Counter,
}

export!(
    Everything: Authenticate, OnRequest, OnRoute, OnUpstreamRequest, OnResponse, StreamText, StreamEvents, OnError,
    OnComplete, OnTick
);

impl Plugin for Everything {
    type Config = Settings;
    fn new(settings: Settings) -> Result<Self, String> {
        if settings.temperature > 2.0 {
            return Err("`temperature` is at most 2".to_owned());
        }
        Ok(Self { settings, hits: Counter::new("hits_total", &["hook"])? })
    }
}

impl Authenticate for Everything {
    fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection> {
        match head.header("Authorization") {
            Some(key) if secrets::get("key").as_deref() == Some(key) => {
                Ok(Some(Principal::new("ann").tenant("a").key("k").tag("by", head.client_ip.as_str())))
            }
            Some(_) => Err(Rejection::new(401, "invalid_api_key", "no")),
            None => Ok(None),
        }
    }
}

impl OnRequest for Everything {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        self.hits.add(1.0, &["on-request"]);
        call.set_header("x-seen", "yes")?;
        if call.get("/temperature").is_none() {
            call.set_value("/temperature", &self.settings.temperature)?;
        }
        match call.get_str("/messages/0/content").as_deref() {
            Some("echo") => return Ok(Flow::Respond(SyntheticResponse::json(call.body()))),
            Some("forbidden") => return Err(Rejection::new(403, "forbidden", "no").header("x-why", "rude")),
            Some("wrong") => call.set("temperature", "1")?,
            Some("teapot") => return Ok(Flow::Respond(SyntheticResponse::new(99))),
            _ => {}
        }
        call.set_attr("asked", b"1");
        call.tag("model", &call.model());
        log::info("asked", &[("credential", &call.header("authorization").unwrap_or_default())]);
        Ok(Flow::Next)
    }
}

impl OnRoute for Everything {
    fn on_route(&self, _: &Call, candidates: &[Candidate]) -> Result<Hint, Rejection> {
        Ok(Hint::Prefer(candidates.iter().rev().map(|candidate| candidate.id.clone()).collect()))
    }
}

impl OnUpstreamRequest for Everything {
    fn on_upstream_request(&self, call: &Call) -> Result<UpstreamFlow, Rejection> {
        let is_bad = call.upstream().as_deref() == Some("bad");
        Ok(if is_bad { UpstreamFlow::SkipUpstream } else { UpstreamFlow::Next })
    }
}

impl OnResponse for Everything {
    fn on_response(&self, call: &Call, status: u16) -> Result<ResponseFlow, Rejection> {
        if status == 529 {
            return Ok(ResponseFlow::Retry("overloaded".to_owned()));
        }
        let tokens = call.usage().map_or(0, |usage| usage.completion_tokens);
        call.set_value("/tokens", &tokens)?;
        call.remove_header("server")?;
        Ok(ResponseFlow::Next)
    }
}

/// Turns `a` into `b`; moves `(…)` to the thinking if it is told to; refuses `#`.
struct Filter {
    moves: bool,
    held: String,
}

impl TextFilter for Filter {
    fn push(&mut self, text: &str, out: &mut Out) {
        for character in text.chars() {
            match character {
                '#' => out.reject(Rejection::new(400, "hash", "no")),
                '(' if self.moves => self.held.push('('),
                ')' if !self.held.is_empty() => out.push_to(Channel::Reasoning, &self.held.split_off(0)[1..]),
                _ if !self.held.is_empty() => self.held.push(character),
                'a' => out.push('b'),
                _ => out.push(character),
            }
        }
    }
    fn finish(&mut self, out: &mut Out) {
        out.push_str(&self.held);
    }
    fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }
}

impl StreamText for Everything {
    type Stream = Lanes<Filter>;
    fn open(&self, call: &Call) -> Option<Opened<Self::Stream>> {
        if call.model() == "other" {
            return None;
        }
        let moves = self.settings.moves;
        let lanes = Lanes::new(move |_| Filter { moves, held: String::new() });
        Some(match self.settings.wake.as_str() {
            "" => Opened::new(lanes),
            "finish" => Opened::new(lanes).wake(Wake::AtFinish),
            literals => lanes.asleep_until(literals.split(' ')),
        })
    }
}

/// Numbers the events, lets go after three.
struct Numbers(usize);

impl StreamEvents for Everything {
    type Stream = Numbers;
    fn open(&self, _: &Call) -> Option<Numbers> {
        Some(Numbers(0))
    }
}

impl EventStream for Numbers {
    fn push(&mut self, events: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        self.0 += events.len();
        let event = SseEvent::new(self.0.to_string()).named("count");
        Ok(if self.0 < 3 { EventAction::Replace(vec![event]) } else { EventAction::DetachWith(vec![event]) })
    }
    fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
        Ok(EventAction::Replace(vec![SseEvent::new("end")]))
    }
}

impl OnError for Everything {
    fn on_error(&self, _: &Call, failure: &Failure) -> Result<ErrorFlow, Rejection> {
        Ok(if failure.status == 504 { ErrorFlow::Fallback("slow".to_owned()) } else { ErrorFlow::Next })
    }
}

impl OnComplete for Everything {
    fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        for record in &batch {
            kv::add(&record.model, 1, Some(Duration::from_secs(60)))?;
        }
        Ok(batch.into_iter().map(|record| (record.id, vec![("done".to_owned(), "yes".to_owned())])).collect())
    }
}

impl OnTick for Everything {
    fn on_tick(&self, now_unix_ms: u64) {
        kv::set("now", now_unix_ms.to_string(), None).expect("kv is granted");
    }
}

fn kit(config: Value) -> Kit<Everything> {
    Kit::new(config)
}

fn asking(content: &str) -> Kit<Everything> {
    kit(json!({})).request(json!({"model": "m", "messages": [{"role": "user", "content": content}]}))
}

#[test]
fn a_refused_configuration_says_why() {
    let refused = |config| Kit::<Everything>::try_new(config).err().unwrap_or_default();
    assert_eq!(refused(json!({"temperature": 3})), "`temperature` is at most 2");
    assert!(refused(json!({"temprature": 1})).starts_with("unknown field `temprature`"));
    assert!(refused(json!({"temperature": "hot"})).starts_with("`temperature`: invalid type"));
}

#[test]
fn a_caller_is_named_by_a_secret() {
    let kit = |key: &str| {
        let grants = Grants::new().secret("key", "s3cret");
        Kit::<Everything>::granted(grants, json!({})).unwrap().header("Authorization", key)
    };
    let principal = kit("s3cret").authenticate().unwrap().unwrap();
    assert_eq!((principal.name.as_str(), principal.tenant.as_deref()), ("ann", Some("a")));
    assert_eq!(principal.tags, [("by".to_owned(), "192.0.2.1".to_owned())]);
    assert_eq!(kit("other").authenticate().unwrap_err().status, 401);
    assert_eq!(asking("hi").authenticate().unwrap(), None);
}

#[test]
fn a_request_is_edited() {
    let kit = asking("hi").header("Authorization", "secret");
    assert_eq!(kit.on_request(), Ok(Flow::Next));
    assert_eq!(kit.document()["temperature"], json!(0.2));
    assert_eq!(kit.call().header("X-Seen").as_deref(), Some("yes"));
    assert_eq!(kit.call().attr("asked").as_deref(), Some(&b"1"[..]));
    assert_eq!(kit.tags()["model"], "m");
    assert_eq!(kit.metric("hits_total").unwrap().sum(&["on-request"]), 1.0);
    let lines = kit.log();
    assert_eq!((lines.len(), lines[0].level, lines[0].message.as_str()), (1, Level::Info, "asked"));
    assert_eq!(lines[0].fields, [("credential".to_owned(), String::new())], "credentials are hidden");
    assert_eq!(kit.with_credentials().call().header("authorization").as_deref(), Some("secret"));
}

#[test]
fn a_request_is_answered_or_refused_and_edits_are_undone() {
    let Ok(Flow::Respond(answer)) = asking("echo").on_request() else { panic!("it answers itself") };
    assert_eq!(answer.status, 200);
    let kit = asking("forbidden");
    let rejection = kit.on_request().unwrap_err();
    assert_eq!(rejection.to_string(), "403 `forbidden`: no");
    assert_eq!(rejection.headers, [("x-why".to_owned(), "rude".to_owned())]);
    assert_eq!(kit.document().get("temperature"), None);
    assert_eq!(kit.call().header("x-seen"), None);
}

#[test]
fn an_edit_that_is_wrong_becomes_a_rejection() {
    let rejection = asking("wrong").on_request().unwrap_err();
    assert_eq!(
        rejection.to_string(),
        "500 `plugin_error`: `temperature` is no JSON Pointer: it must be empty or begin with `/`"
    );
}

#[test]
fn headers_and_the_model_are_edited_as_on_the_host() {
    let kit = asking("hi").header("cookie", "a=1");
    let call = kit.call();
    let refused = |name: &str, value: &str| call.set_header(name, value).unwrap_err();
    assert_eq!(refused("a b", ""), "`a b` is no name of a header");
    assert_eq!(
        refused("X-A", "a\nb"),
        "the value of the header `x-a` has characters that no header can carry"
    );
    assert_eq!(refused("Host", "a"), "the header `host` is the gateway's own");
    assert_eq!(refused("cookie", "a"), "the header `cookie` needs the grant `allow: { credentials: true }`");
    assert_eq!(call.headers(), []);
    call.set("/model", "\"other\"").unwrap();
    assert_eq!(call.model(), "m", "until the hook returns");
    kit.on_request().unwrap();
    assert_eq!(kit.call().model(), "other");
    assert_eq!(kit.tags()["model"], "m");
    let kit = kit.response(200, json!({"messages": [{"role": "user", "content": "a"}]}));
    assert!(kit.call().messages().is_empty(), "an answer has none");
    assert_eq!(kit.call().set_message(0, "b").unwrap_err(), "there are no messages here");
    assert_eq!(kit.without_document().call().set("/a", "1").unwrap_err(), "there is no JSON document here");
}

#[test]
#[should_panic(expected = "an answer's status is 200 to 599, not 99")]
fn an_answer_that_the_host_would_not_take_is_a_fault() {
    let _ = asking("teapot").on_request();
}

#[test]
fn hooks_of_the_attempts_are_called() {
    let kit = asking("hi");
    let hint = kit.on_route(&[candidate("a"), candidate("b")]).unwrap();
    assert_eq!(hint, Hint::Prefer(vec!["b".to_owned(), "a".to_owned()]));
    let kit = kit.upstream("bad", 1);
    assert_eq!(kit.on_upstream_request(), Ok(UpstreamFlow::SkipUpstream));
    assert_eq!(kit.on_error(&failure(504, "upstream_timeout")), Ok(ErrorFlow::Fallback("slow".to_owned())));
    assert_eq!(kit.upstream("good", 2).on_upstream_request(), Ok(UpstreamFlow::Next));
}

#[test]
fn an_answer_is_edited() {
    let usage =
        Usage { prompt_tokens: 1, completion_tokens: 7, reasoning_tokens: 0, cached_prompt_tokens: 0 };
    let kit = asking("hi").response(200, json!({"model": "m-2026"})).usage(usage).header("Server", "x");
    assert_eq!(kit.on_response(), Ok(ResponseFlow::Next));
    assert_eq!(kit.document(), json!({"model": "m-2026", "tokens": 7}));
    assert_eq!(kit.call().model(), "m", "the request's, not the answer's");
    assert_eq!(kit.call().headers(), []);
    let kit = asking("hi").response(529, json!({}));
    assert_eq!(kit.on_response(), Ok(ResponseFlow::Retry("overloaded".to_owned())));
}

#[test]
fn text_is_filtered_however_it_is_cut() {
    kit(json!({})).every_split("la la, é日本 a", |seen| assert_eq!(seen.content(), "lb lb, é日本 b"));
    kit(json!({})).every_split("", |seen| assert_eq!(seen.content(), ""));
    kit(json!({})).every_split("bcd", |seen| assert_eq!(seen.content(), "bcd"));
}

#[test]
fn text_moves_to_another_channel() {
    kit(json!({"moves": true})).every_split("a(bc)d(e)(f", |seen| {
        assert_eq!((seen.content(), seen.reasoning()), ("bd(f", "bce"));
    });
}

#[test]
fn a_filter_ends_the_answer() {
    kit(json!({})).every_split("ab#cd", |seen| assert_eq!(seen.rejection().unwrap().code, "hash"));
    let seen = kit(json!({})).stream(&["ab", "#cd", "ef"]);
    assert_eq!((seen.content(), seen.calls()), ("bb", 2));
}

#[test]
fn a_stream_of_no_interest_passes() {
    let seen = kit(json!({})).request(json!({"model": "other"})).answer("a");
    assert_eq!((seen.content(), seen.is_open(), seen.calls()), ("a", false, 0));
}

#[test]
fn a_sleeping_stream_is_called_for_its_literal() {
    let seen = kit(json!({"wake": "ca"})).stream(&["a", "xc", "ay", "a"]);
    assert_eq!((seen.content(), seen.calls()), ("axcbya", 2));
    let seen = kit(json!({"wake": "finish"})).stream(&["a", "a"]);
    assert_eq!((seen.content(), seen.calls()), ("aa", 1));
}

#[test]
fn a_stream_that_withholds_text_stays_awake() {
    let kit = kit(json!({"moves": true, "wake": "( a"}));
    kit.every_split("xx(y)a(zz)x(", |seen| assert_eq!((seen.content(), seen.reasoning()), ("xxbx(", "yzz")));
    assert_eq!(kit.stream(&["x", "(", "y", ")", "x", "x"]).calls(), 4);
}

#[test]
fn choices_and_channels_are_apart() {
    let one = batch(&[
        (0, Channel::Content, 0, "a"),
        (1, Channel::Content, 0, "(a"),
        (0, Channel::Reasoning, 0, "a"),
    ]);
    let two = batch(&[(0, Channel::Content, 0, ")a"), (1, Channel::Content, 0, "b)c")]);
    let seen = kit(json!({"moves": true})).batches(&[one, two], Finish::Length);
    assert_eq!((seen.content(), seen.text(1, Channel::Content, 0)), ("b)b", "c"));
    assert_eq!((seen.reasoning(), seen.text(1, Channel::Reasoning, 0)), ("a", "ab"));
}

#[test]
fn nothing_is_added_when_the_client_has_left() {
    let whole = [batch(&[(0, Channel::Content, 0, "(a")])];
    let kit = kit(json!({"moves": true}));
    assert_eq!(kit.batches(&whole, Finish::UpstreamError).content(), "(a");
    assert_eq!(kit.batches(&whole, Finish::Cancelled).content(), "");
}

#[test]
fn events_are_replaced_until_the_stream_lets_go() {
    let reads: Vec<Vec<SseEvent>> =
        ["a b", "c", "d"].map(|read| read.split(' ').map(SseEvent::new).collect()).to_vec();
    let seen = kit(json!({})).events(&reads, Finish::Stop);
    let count = |n: &str| SseEvent::new(n).named("count");
    assert_eq!(seen.events, [count("2"), count("3"), SseEvent::new("d")]);
    assert!(seen.is_detached);
    let seen = kit(json!({})).events(&reads[1..2], Finish::Stop);
    assert_eq!(seen.events, [count("1"), SseEvent::new("end")]);
}

#[test]
fn what_is_kept_has_a_time_and_a_bound() {
    let kit = asking("hi");
    assert_eq!(kit.on_complete(vec![record("1"), record("2")]).unwrap()[1].0, "2");
    assert_eq!(kit.value("model").as_deref(), Some(&b"2"[..]));
    kit.advance(Duration::from_secs(61));
    assert_eq!(kit.value("model"), None);
    kit.on_tick(5);
    assert_eq!(kit.value("now").as_deref(), Some(&b"5"[..]));
    let small = Kit::<Everything>::granted(Grants::new().kv_bytes_max(3), json!({})).unwrap();
    assert_eq!(small.on_complete(vec![record("1")]).unwrap_err(), "kv is full: raise `allow.kv`");
    let denied = Kit::<Everything>::granted(Grants::new().kv_bytes_max(0), json!({})).unwrap();
    assert_eq!(denied.on_complete(vec![record("1")]).unwrap_err(), "kv is not granted: add `allow.kv`");
}

#[test]
fn values_are_exchanged_atomically() {
    let kit = asking("hi");
    kit.set_value("a", "1");
    assert_eq!(kv::compare_and_set("a", Some(b"2"), "3"), Ok(false));
    assert_eq!(kv::compare_and_set("a", Some(b"1"), "x"), Ok(true));
    assert_eq!(kv::compare_and_set("b", None, "y"), Ok(true));
    assert_eq!(kv::add("a", 1, None), Err(kv::Error::Other("the value of `a` is no number".to_owned())));
    kv::delete("a").unwrap();
    assert_eq!(kv::get("a"), Ok(None));
}

#[test]
fn other_servers_are_played() {
    let grants = Grants::new().http(|request| match request.url.as_str() {
        "https://a.example/b" => Ok(http::Response::new(201, request.body.clone())),
        _ => Err(http::Error::Timeout),
    });
    let kit = Kit::<Everything>::granted(grants, json!({})).unwrap();
    let request = http::Request::post("https://a.example/b").json(&json!({"c": 1})).unwrap();
    let response = request.send().unwrap();
    assert_eq!((response.status, response.json::<Value>().unwrap()), (201, json!({"c": 1})));
    assert_eq!(http::get("https://a.example"), Err(http::Error::Timeout));
    assert!(matches!(http::get("a.example"), Err(http::Error::Request(_))));
    assert_eq!(kit.requests().len(), 2);
    assert_eq!(kit.requests()[0], request);
    drop(asking("hi"));
    assert_eq!(http::get("https://a.example/b"), Err(http::Error::Denied));
}

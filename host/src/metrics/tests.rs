use std::time::Duration;

use super::*;
use crate::config::env::Environment;
use crate::config::{Overrides, load_text};
use crate::error::{Error, Timer};
use crate::exchange::Aside;
use crate::metrics::series::Seen;

const UPSTREAMS: &str = "
  - { name: a, base_url: 'http://a', models: { nick: gpt-4o } }
  - { name: b, base_url: 'http://b', model_match: { type: keyword, value: gpt } }";

fn config(upstreams: &str) -> Config {
    let text = format!("upstreams:{upstreams}\n");
    load_text(&text, "w.yaml".as_ref(), &Environment::default(), &Overrides::default()).unwrap().0
}

/// Something that exchanges are recorded in.
fn activity() -> Arc<Activity> {
    let activity = Arc::new(Activity::new());
    activity.metrics.configure(&config(UPSTREAMS));
    activity
}

/// An exchange that was sent to these upstreams, which answered so.
fn exchange(activity: &Arc<Activity>, model: &str, attempts: &[(&str, Result<u16, ErrorKind>)]) -> Exchange {
    let mut exchange = Exchange::begin(&Request::new(()), Ipv4Addr::LOCALHOST.into(), activity);
    exchange.endpoint = "chat.completions";
    exchange.model = Some(model.into());
    for (upstream, outcome) in attempts {
        exchange.attempts.push(Attempt {
            upstream: (*upstream).into(),
            model: model.into(),
            began: Duration::ZERO,
            status: outcome.as_ref().ok().map(|status| StatusCode::from_u16(*status).unwrap()),
            error: outcome.as_ref().err().map(|kind| Error::new(kind.clone(), "")),
            took: Duration::ZERO,
        });
    }
    if let Some((_, Ok(status))) = attempts.last() {
        exchange.answer(StatusCode::from_u16(*status).unwrap(), &HeaderMap::new());
        exchange.complete();
    }
    exchange
}

fn seen(activity: &Activity) -> Seen {
    activity.metrics.series.seen(&activity.metrics.names.load())
}

/// Endpoint, model, upstream, status and outcome of all that was counted.
fn lines(activity: &Activity) -> Vec<String> {
    let line = |line: &series::SeenLine| {
        let place = &line.place;
        let labels = [place.endpoint, &place.model, &place.upstream, line.outcome];
        format!("{} {} {}", labels.join(" "), line.status, line.requests)
    };
    seen(activity).lines.iter().map(line).collect()
}

#[test]
fn an_exchange_is_counted_once_under_its_names() {
    let activity = activity();
    for _ in 0..2 {
        drop(exchange(&activity, "nick", &[("a", Ok(200))]));
    }
    drop(exchange(
        &activity,
        "nick",
        &[("a", Err(ErrorKind::UpstreamTimeout(Timer::FirstByte))), ("b", Ok(200))],
    ));
    drop(exchange(&activity, "nick", &[("a", Ok(404))]));
    drop(exchange(&activity, "nick", &[]));
    let mut unknown = exchange(&activity, "nick", &[]);
    (unknown.endpoint, unknown.model) = ("-", None);
    unknown.answer(StatusCode::NOT_FOUND, &HeaderMap::new());
    unknown.fail(Error::new(ErrorKind::UnknownPath, ""));
    drop(unknown);
    assert_eq!(
        lines(&activity),
        [
            "chat.completions nick a complete 200 2",
            "chat.completions nick a refused 404 1",
            "chat.completions nick b complete 200 1",
            "chat.completions nick none cancelled 499 1",
            "other none none refused 404 1",
        ]
    );
    let totals = &activity.metrics.totals;
    let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(
        [&totals.requests, &totals.success, &totals.error, &totals.retry, &totals.upstream_errors].map(now),
        [6, 3, 2, 1, 1]
    );
    let moves: u64 = seen(&activity).shares.values().map(|share| share.moves).sum();
    assert_eq!(moves, 1);
}

#[test]
fn what_is_not_a_request_is_not_counted() {
    let activity = activity();
    for aside in [Aside::Admin, Aside::Health, Aside::Metrics, Aside::Preflight] {
        exchange(&activity, "nick", &[]).pass_by(aside);
    }
    assert_eq!(lines(&activity), [""; 0]);
}

// parity: 157, 159
#[test]
fn tokens_are_counted_by_kind_and_once() {
    let activity = activity();
    let usage =
        Usage { input: 100, output: 20, cached: 64, reasoning: 5, is_estimated: false, ..Usage::default() };
    exchange(&activity, "nick", &[("a", Ok(500)), ("b", Ok(200))]).usage = Some(usage);
    exchange(&activity, "nick", &[("b", Ok(200))]).usage = Some(Usage { is_estimated: true, ..usage });
    drop(exchange(&activity, "nick", &[("b", Ok(200))]));
    let seen = seen(&activity);
    let share = seen.shares.values().next().unwrap();
    assert_eq!(share.tokens(), [("input", 200), ("output", 40), ("cached", 128), ("reasoning", 10)]);
    assert_eq!((share.input_estimated, share.output_estimated, share.usage_missing), (100, 20, 2));
    assert_eq!(share.input.count(), 2);
}

// parity: 155
#[test]
fn a_name_is_learned_when_an_upstream_has_taken_it() {
    let activity = activity();
    drop(exchange(&activity, "gpt-x", &[("b", Ok(404))]));
    drop(exchange(&activity, "gpt-x", &[("b", Ok(200))]));
    drop(exchange(&activity, "gpt-x", &[("b", Ok(404))]));
    drop(exchange(&activity, "gpt-y", &[("b", Err(ErrorKind::UpstreamTimeout(Timer::FirstByte)))]));
    assert_eq!(
        lines(&activity),
        [
            "chat.completions gpt-x b complete 200 1",
            "chat.completions gpt-x b refused 404 1",
            "chat.completions other b refused 404 1",
            "chat.completions other b cancelled 499 1",
        ]
    );
}

// parity: 155
#[test]
fn random_names_make_no_more_series() {
    let activity = activity();
    for number in 0..names::MODELS_MAX * 2 {
        drop(exchange(&activity, &format!("gpt-{number}"), &[("b", Ok(200))]));
    }
    let count = lines(&activity).len();
    assert_eq!(count, names::MODELS_MAX + 1);
    for number in 0..10_000 {
        drop(exchange(&activity, &format!("new-{number}"), &[("b", Ok(200))]));
    }
    assert_eq!(lines(&activity).len(), count);
}

#[test]
fn what_the_configuration_drops_leaves_the_page() {
    let activity = activity();
    drop(exchange(&activity, "nick", &[("a", Ok(200))]));
    let late = exchange(&activity, "nick", &[("a", Ok(200))]);
    drop(exchange(&activity, "nick", &[("b", Ok(200))]));
    activity.metrics.configure(&config("\n  - { name: b, base_url: 'http://b', models: { nick: gpt-4o } }"));
    assert_eq!(lines(&activity), ["chat.completions nick b complete 200 1"]);
    drop(late);
    assert_eq!(
        lines(&activity),
        ["chat.completions nick b complete 200 1", "chat.completions nick other complete 200 1"]
    );
    activity.metrics.configure(&config(UPSTREAMS));
    drop(exchange(&activity, "nick", &[("a", Ok(200))]));
    assert_eq!(lines(&activity)[0], "chat.completions nick a complete 200 1", "it begins anew");
}

#[test]
fn errors_have_a_kind_and_somebody_to_blame() {
    use crate::error::Refusal;
    let activity = activity();
    drop(exchange(&activity, "nick", &[("a", Ok(503))]));
    drop(exchange(&activity, "nick", &[("a", Ok(404))]));
    drop(exchange(&activity, "nick", &[]));
    let refusal = |code: &str| {
        let code = code.to_owned();
        ErrorKind::Rejected(Box::new(Refusal {
            status: StatusCode::FORBIDDEN,
            code,
            headers: HeaderMap::new(),
        }))
    };
    for kind in
        [ErrorKind::Internal, refusal("a"), refusal("b"), ErrorKind::UpstreamTimeout(Timer::FirstByte)]
    {
        let mut failed = exchange(&activity, "nick", &[]);
        failed.answer(kind.status(), &HeaderMap::new());
        failed.fail(Error::new(kind, ""));
    }
    let errors = activity.metrics.errors.lock().unwrap();
    let all: Vec<String> =
        errors.iter().map(|(kind, known)| format!("{kind} {} {}", known.blame, known.count)).collect();
    assert_eq!(
        all,
        [
            "cancelled client 1",
            "internal_error gateway 1",
            "rejected plugin 2",
            "upstream_first_byte_timeout upstream 1",
            "upstream_refused client 1",
            "upstream_status upstream 1",
        ]
    );
}

#[test]
fn connections_count_while_they_are_open() {
    let metrics = Metrics::new();
    let open = |listener: Listener| metrics.connections[listener as usize].load(Ordering::Relaxed);
    let held = (metrics.connected(Listener::Main), metrics.connected(Listener::Main));
    assert_eq!((open(Listener::Main), open(Listener::Admin)), (2, 0));
    drop(held);
    assert_eq!(open(Listener::Main), 0);
}

//! The checks that no client asked for: a path of the operator's choice, asked again and again.
//!
//! One good answer closes a breaker that is open because of failures; as many bad ones in a row as a breaker bears open
//! it, and it stays open while they go on.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Request, StatusCode, Uri};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Health;
use crate::error::{Error, ErrorKind, Result, Timer};
use crate::gateway::Gateway;
use crate::upstream::pool::{Answer, Timers};
use crate::upstream::{RequestBody, Upstream};

/// How long one check may take: as long as the interval, but not less and not more than this.
const CHECK_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);
/// What of an answer is read, so that its connection can be used again, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Checks every upstream that wants it, as the configuration in force says, until `stop`.
pub(crate) async fn watch(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut swaps = gateway.snapshots.swaps();
    let mut tasks = JoinSet::new();
    let mut running: Vec<(Arc<Upstream>, AbortHandle)> = Vec::new();
    loop {
        swaps.mark_unchanged();
        // An upstream that did not change is the same one, and its checks go on; none holds a whole configuration.
        let upstreams = gateway.snapshots.current().upstreams.clone();
        running.retain(|(known, task)| {
            let is_wanted = upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, known));
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for upstream in upstreams {
            let is_running = running.iter().any(|(known, _)| Arc::ptr_eq(&upstream, known));
            if let Some(health) = &upstream.settings.health
                && upstream.settings.is_enabled
                && !is_running
            {
                let task = tasks.spawn(check_on(upstream.clone(), health.clone()));
                running.push((upstream, task));
            }
        }
        // Dropping the set ends them all.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = swaps.changed() => if changed.is_err() { return },
        }
        while tasks.try_join_next().is_some() {}
    }
}

/// Checks one upstream for ever.
async fn check_on(upstream: Arc<Upstream>, health: Health) {
    let mut bad: u32 = 0;
    let mut turns = tokio::time::interval(health.interval);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let time_max = health.interval.clamp(*CHECK_TIME.start(), *CHECK_TIME.end());
    loop {
        turns.tick().await;
        let (name, settings) = (&upstream.settings.name, &upstream.settings.breaker);
        let answered = tokio::time::timeout(time_max, check(&upstream, &health)).await;
        let cause = match answered {
            Ok(Ok(status)) if status.is_success() => {
                bad = 0;
                upstream.breaker.checked_well(name);
                continue;
            }
            Ok(Ok(status)) => format!("status {}", status.as_u16()),
            Ok(Err(error)) => error.message,
            Err(_) => "no answer in time".to_owned(),
        };
        bad = bad.saturating_add(1);
        tracing::debug!(upstream = &**name, cause, bad, "a health check failed");
        if bad >= settings.failures {
            upstream.breaker.checked_badly(name, settings);
        }
    }
}

/// Asks once.
async fn check(upstream: &Upstream, health: &Health) -> Result<StatusCode> {
    let address: Uri = health
        .path
        .parse()
        .map_err(|_| Error::new(ErrorKind::Internal, "the path of the check is no path"))?;
    let make = || {
        let mut request = Request::new(RequestBody::default());
        *request.uri_mut() = address.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, upstream.host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static("witgate-health"));
        let dialect = upstream.settings.dialect;
        if let Some(credential) = upstream.credential() {
            headers.insert(super::credential_header(dialect), credential.clone());
        }
        super::state_version(dialect, headers);
        for (name, value) in &upstream.settings.headers {
            headers.insert(name.clone(), value.clone());
        }
        request
    };
    // The bound of the whole check holds for its parts.
    let timers = Timers { connect: Duration::ZERO, head: Duration::ZERO, head_timer: Timer::FirstByte };
    let Answer { head, mut body, .. } = upstream.pool.send(make, timers).await?;
    let mut read = 0;
    while let Some(Ok(data)) = poll_fn(|context| body.poll_data(context)).await {
        read += data.len();
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(head.status)
}

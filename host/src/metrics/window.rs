//! The last minute, second by second, for `/stats` and the operators' page.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::metrics::histogram::{DURATION, FIRST_TOKEN, Tally};

/// How far it looks back.
const SECONDS: u64 = 60;

/// A ring of seconds. The one that is counted in is locked for as long as four additions take.
pub(crate) struct Window {
    cells: Vec<Mutex<Cell>>,
    began: Instant,
    began_at: SystemTime,
}

/// What ended within one second.
struct Cell {
    /// Which second since the beginning; the cell is of another one until it is used again.
    second: u64,
    requests: u64,
    errors: u64,
    left: u64,
    tokens: u64,
    first_token: Tally,
    duration: Tally,
}

/// What the window is told of an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    /// Whether it is an error in S5's sense.
    pub(crate) is_error: bool,
    /// Whether the client left before the end.
    pub(crate) is_left: bool,
    /// Tokens of answers.
    pub(crate) tokens: u64,
    /// From the start to the first content of a stream.
    pub(crate) first_token: Option<Duration>,
    /// From the start to the end.
    pub(crate) duration: Duration,
}

impl Window {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self {
            cells: (0..SECONDS).map(|_| Mutex::new(Cell::new())).collect(),
            began: Instant::now(),
            began_at: SystemTime::now(),
        }
    }

    /// Since when it counts.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Counts an exchange that ended now.
    pub(crate) fn count(&self, now: Instant, ended: Ended) {
        let second = now.saturating_duration_since(self.began).as_secs();
        let mut cell = self.cell(second);
        if cell.second != second {
            cell.clear(second);
        }
        cell.requests += 1;
        cell.errors += u64::from(ended.is_error);
        cell.left += u64::from(ended.is_left);
        cell.tokens += ended.tokens;
        cell.duration.time(ended.duration);
        if let Some(time) = ended.first_token {
            cell.first_token.time(time);
        }
    }

    /// All of it at once.
    pub(crate) fn totals(&self, now: Instant) -> Totals {
        let mut totals = Totals {
            seconds: now.saturating_duration_since(self.began).as_secs_f64().clamp(1.0, SECONDS as f64),
            requests: 0,
            errors: 0,
            left: 0,
            tokens: 0,
            first_token: Tally::new(&FIRST_TOKEN),
            duration: Tally::new(&DURATION),
        };
        for second in self.seconds(now) {
            let cell = self.cell(second);
            if cell.second == second {
                totals.requests += cell.requests;
                totals.errors += cell.errors;
                totals.left += cell.left;
                totals.tokens += cell.tokens;
                totals.first_token.add(&cell.first_token);
                totals.duration.add(&cell.duration);
            }
        }
        totals
    }

    /// What `/stats` says of it: the whole, and an entry a second, the oldest first; the last second still runs.
    pub(crate) fn describe(&self, now: Instant) -> Value {
        let totals = self.totals(now);
        let a_second = |count: u64| count as f64 / totals.seconds;
        let quantiles = |tally: &Tally| json!({"p50": tally.quantile(0.5), "p95": tally.quantile(0.95)});
        let series: Vec<Value> = self.series(now);
        json!({
            "seconds": SECONDS,
            "requests": totals.requests,
            "errors": totals.errors,
            "requests_per_second": a_second(totals.requests),
            "errors_per_second": a_second(totals.errors),
            "tokens_per_second": a_second(totals.tokens),
            "ttft_seconds": quantiles(&totals.first_token),
            "latency_seconds": quantiles(&totals.duration),
            "series": series,
        })
    }

    fn series(&self, now: Instant) -> Vec<Value> {
        let began_at = self.began_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let current = now.saturating_duration_since(self.began).as_secs();
        let entry = |ago: u64| {
            let at = (began_at + current).saturating_sub(ago);
            let second = current.checked_sub(ago);
            let cell = second.map(|second| (second, self.cell(second)));
            match cell.filter(|(second, cell)| cell.second == *second) {
                Some((_, cell)) => json!({
                    "at": at,
                    "requests": cell.requests,
                    "errors": cell.errors,
                    "tokens": cell.tokens,
                    "ttft_p50": cell.first_token.quantile(0.5),
                }),
                None => json!({"at": at, "requests": 0, "errors": 0, "tokens": 0, "ttft_p50": null}),
            }
        };
        (0..SECONDS).rev().map(entry).collect()
    }

    /// The seconds it looks back on, as far as there were any.
    fn seconds(&self, now: Instant) -> std::ops::RangeInclusive<u64> {
        let current = now.saturating_duration_since(self.began).as_secs();
        current.saturating_sub(SECONDS - 1)..=current
    }

    fn cell(&self, second: u64) -> MutexGuard<'_, Cell> {
        let place = usize::try_from(second % SECONDS).expect("it is less than a minute");
        self.cells[place].lock().expect("no code panics while it holds this lock")
    }
}

/// The sums of the last minute.
pub(crate) struct Totals {
    /// How long it is: a minute, or since the start, but not less than a second.
    pub(crate) seconds: f64,
    /// Exchanges that ended.
    pub(crate) requests: u64,
    /// Those that are errors in S5's sense.
    pub(crate) errors: u64,
    /// Those whose clients left.
    left: u64,
    /// Tokens of answers.
    pub(crate) tokens: u64,
    first_token: Tally,
    duration: Tally,
}

impl Totals {
    /// How many ended well, and how many of all there were whose clients stayed.
    pub(crate) fn successes(&self) -> (u64, u64) {
        let stayed = self.requests - self.left;
        (stayed - self.errors, stayed)
    }
}

impl Cell {
    fn new() -> Self {
        Self {
            second: u64::MAX,
            requests: 0,
            errors: 0,
            left: 0,
            tokens: 0,
            first_token: Tally::new(&FIRST_TOKEN),
            duration: Tally::new(&DURATION),
        }
    }

    fn clear(&mut self, second: u64) {
        (self.second, self.requests, self.errors) = (second, 0, 0);
        (self.left, self.tokens) = (0, 0);
        self.first_token.clear();
        self.duration.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(ms: u64) -> Ended {
        let duration = Duration::from_millis(ms);
        Ended {
            is_error: ms == 5,
            is_left: ms == 7,
            tokens: 3,
            first_token: (ms > 5).then_some(duration),
            duration,
        }
    }

    // parity: 156
    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let window = Window::new();
        let at = |seconds| window.began + Duration::from_secs(seconds);
        window.count(at(0), ended(5));
        window.count(at(0), ended(300));
        window.count(at(59), ended(300));
        let counts = |now| {
            let totals = window.totals(at(now));
            (totals.requests, totals.errors, totals.tokens)
        };
        assert_eq!(counts(0), (2, 1, 6));
        assert_eq!(counts(59), (3, 1, 9));
        assert_eq!(counts(60), (1, 0, 3));
        assert_eq!(counts(118), (1, 0, 3));
        assert_eq!(counts(119), (0, 0, 0));
        window.count(at(120), ended(5));
        assert_eq!(counts(120), (1, 1, 3), "the first cell is used again");
    }

    #[test]
    fn a_client_that_leaves_is_neither_a_success_nor_an_error() {
        let window = Window::new();
        for ms in [5, 7, 7, 300, 300, 300] {
            window.count(window.began, ended(ms));
        }
        assert_eq!(window.totals(window.began).successes(), (3, 4));
    }

    #[test]
    fn the_description_has_sixty_seconds() {
        let window = Window::new();
        let now = window.began + Duration::from_secs(2);
        window.count(window.began, ended(5));
        window.count(now, ended(300));
        let described = window.describe(now);
        let series = described["series"].as_array().unwrap();
        assert_eq!(series.len(), 60);
        let ends: Vec<&Value> = series[57..].iter().map(|entry| &entry["requests"]).collect();
        assert_eq!(ends, [1, 0, 1]);
        assert_eq!(series[59]["at"].as_u64().unwrap() - series[0]["at"].as_u64().unwrap(), 59);
        assert_eq!((&series[57]["ttft_p50"], &series[59]["ttft_p50"]), (&Value::Null, &json!(0.25)));
        assert_eq!(described["requests_per_second"], json!(1.0));
        assert_eq!(described["errors"], json!(1));
        assert_eq!(described["latency_seconds"]["p50"], json!(0.005));
        assert_eq!(window.describe(now + Duration::from_secs(600))["requests"], json!(0));
    }
}

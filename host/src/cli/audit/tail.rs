//! `witgate audit tail`: exchanges as they end.
//!
//! A row is stored when its exchange has ended but numbered by when it began, so that what is new can have any number of
//! the last hour: what ended lately is asked for, and what was printed already is left out.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::output::{End, Output};
use super::show::Printer;
use super::table::Layout;
use super::{Format, Source, TailArguments, tell};
use crate::audit::query::{self as record, Extent, Filter, Row, began};
use crate::cli::serve;

/// How often the record is looked at.
const INTERVAL: Duration = Duration::from_millis(300);
/// How often at most if looking takes long: so many times as long as that.
const INTERVAL_FACTOR: u32 = 10;
/// The longest pause between two looks.
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How long after its end a row may be written and still be printed.
const LATE_MAX: Duration = Duration::from_secs(30);
/// The longest exchange that is printed.
const DURATION_MAX: Duration = Duration::from_secs(3600);
/// The most rows that are looked at for the first lines.
const ROWS_FIRST: usize = 1_000;
/// The most rows of the time in which they may be late that are looked at: 300 a second.
const ROWS_MAX: usize = 10_000;
/// The status of a process that was interrupted. Source: the shells' 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Prints what ends, until the process is interrupted or nobody reads any more.
///
/// # Errors
///
/// When the record cannot be read at the start, or a value makes no sense. What cannot be read later is said and tried
/// again.
pub(super) fn run(arguments: &TailArguments, source: &Source<'_>, out: &mut Output) -> Result<(), End> {
    let filter = arguments.filter.filter(&[])?.with_limit(ROWS_MAX);
    let path = source.path(&arguments.place)?;
    let layout = (arguments.format == Format::Table).then(|| Layout::usual(out.width));
    let mut tail = Tail {
        path: &path,
        filter,
        seen: HashMap::new(),
        printer: Printer::new(arguments.format, Extent::Summary, layout),
        trouble: None,
    };
    tail.begin(usize::from(arguments.lines), out)?;
    serve::runtime()?.block_on(async {
        let follow = async {
            loop {
                let start = tokio::time::Instant::now();
                tail.look(SystemTime::now(), out)?;
                let pause = (start.elapsed() * INTERVAL_FACTOR).clamp(INTERVAL, INTERVAL_MAX);
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            ended = follow => ended,
            _ = tokio::signal::ctrl_c() => std::process::exit(INTERRUPTED),
        }
    })
}

struct Tail<'a> {
    path: &'a Path,
    filter: Filter,
    /// The numbers of what was printed and can still be found, and when each ended.
    seen: HashMap<i64, i64>,
    printer: Printer,
    /// Why the record could not be read the last time.
    trouble: Option<String>,
}

impl Tail<'_> {
    /// Prints what ended last.
    fn begin(&mut self, lines: usize, out: &mut Output) -> Result<(), End> {
        // First, so that whatever is stored from now on counts as new.
        let recent = self.recent(SystemTime::now())?;
        self.seen.extend(recent.iter().map(|row| (row.id(), ended(row))));
        let page = record::list(self.path, &self.filter.clone().with_limit(ROWS_FIRST))?;
        tell(&page.notes);
        let mut rows = page.exchanges;
        rows.sort_by_key(ended);
        let before = rows.len().saturating_sub(lines);
        for row in &rows[before..] {
            self.print(row, out)?;
        }
        Ok(out.flush()?)
    }

    /// Prints what is new.
    fn look(&mut self, now: SystemTime, out: &mut Output) -> Result<(), End> {
        let mut rows = match self.recent(now) {
            Ok(rows) => rows,
            Err(trouble) => {
                if self.trouble.as_ref() != Some(&trouble) {
                    eprintln!("{trouble}; trying again");
                    self.trouble = Some(trouble);
                }
                return Ok(());
            }
        };
        self.trouble = None;
        rows.retain(|row| !self.seen.contains_key(&row.id()));
        rows.sort_by_key(ended);
        for row in &rows {
            self.print(row, out)?;
        }
        // What is too old to be found again need not be known.
        let found_since = micros(now).saturating_sub(2 * micros_of(LATE_MAX));
        self.seen.retain(|_, ended| *ended >= found_since);
        Ok(out.flush()?)
    }

    fn print(&mut self, row: &Row, out: &mut Output) -> Result<(), End> {
        self.seen.insert(row.id(), ended(row));
        self.printer.print(row, out)
    }

    /// What has ended lately.
    fn recent(&self, now: SystemTime) -> Result<Vec<Row>, String> {
        let filter = self.filter.clone().ended_since(now - LATE_MAX, DURATION_MAX);
        record::list(self.path, &filter).map(|page| page.exchanges)
    }
}

/// When an exchange ended, in microseconds since 1970.
fn ended(row: &Row) -> i64 {
    let duration =
        Duration::from_secs_f64(row.real("duration_ms").unwrap_or_default().clamp(0.0, 1e12) / 1e3);
    began(row.id()).saturating_add(micros_of(duration))
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn micros(time: SystemTime) -> i64 {
    micros_of(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

//! `witgate audit tail`: exchanges as they end.
//!
//! A row is stored when its exchange has ended but numbered by when it began, so that what is new can have any number of
//! the last hour: what ended lately is asked for, and what was printed already is left out. Nothing but its number finds
//! a row, so that most looks are only for what began lately, too, and few are for all of the hour.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::output::{End, Output};
use super::show::Printer;
use super::table::Layout;
use super::{Format, INTERRUPTED, Source, TailArguments, tell};
use crate::audit::query::{self as record, Extent, Filter, Location, Row, began};
use crate::cli::serve;

/// How often the record is looked at.
const INTERVAL: Duration = Duration::from_millis(300);
/// How often at most if looking takes long: so many times as long as that.
const INTERVAL_FACTOR: u32 = 10;
/// The longest pause between two looks.
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// What is looked for each time.
const NEAR: Reach = Reach { duration: Duration::from_secs(120), late: Duration::from_secs(30) };
/// What is looked for now and then: all that is printed.
const FAR: Reach = Reach { duration: Duration::from_secs(3600), late: Duration::from_secs(120) };
/// How often all of it is looked for: so often that nothing is too late then.
const FAR_INTERVAL: Duration = Duration::from_secs(60);
/// The most rows that are looked at for the first lines.
const ROWS_FIRST: usize = 1_000;
/// The most rows that have ended lately which are looked at.
const ROWS_MAX: usize = 10_000;

/// Which exchanges a look can find.
#[derive(Clone, Copy)]
struct Reach {
    /// The longest.
    duration: Duration,
    /// How long after its end a row may be written and still be found.
    late: Duration,
}

/// Prints what ends, until the process is interrupted or nobody reads any more.
///
/// # Errors
///
/// When the record cannot be read at the start, or a value makes no sense. What cannot be read later is said and tried
/// again.
pub(super) fn run(arguments: &TailArguments, source: &Source<'_>, out: &mut Output) -> Result<(), End> {
    let filter = arguments.filter.filter(&[])?.with_limit(ROWS_MAX);
    let location = source.location(&arguments.place)?;
    let layout = (arguments.format == Format::Table).then(|| Layout::usual(out.width));
    let printer = Printer::new(arguments.format, Extent::Summary, layout);
    let mut tail = Tail::new(&location, filter, printer);
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
    location: &'a Location,
    filter: Filter,
    /// The numbers of what was printed and can still be found, and when each ended.
    seen: HashMap<i64, i64>,
    printer: Printer,
    /// Why the record could not be read the last time.
    trouble: Option<String>,
    /// When all of the hour was looked for.
    far_look: Option<SystemTime>,
    /// Whether more had ended lately than is looked at.
    is_behind: bool,
}

impl<'a> Tail<'a> {
    fn new(location: &'a Location, filter: Filter, printer: Printer) -> Self {
        Self {
            location,
            filter,
            seen: HashMap::new(),
            printer,
            trouble: None,
            far_look: None,
            is_behind: false,
        }
    }

    /// Prints what ended last.
    fn begin(&mut self, lines: usize, out: &mut Output) -> Result<(), End> {
        // First, so that whatever is stored from now on counts as new.
        let recent = self.recent(SystemTime::now())?;
        self.seen.extend(recent.iter().map(|row| (row.id(), ended(row))));
        let page = record::list(self.location, &self.filter.clone().with_limit(ROWS_FIRST))?;
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
        let found_since = micros(now).saturating_sub(2 * micros_of(FAR.late));
        self.seen.retain(|_, ended| *ended >= found_since);
        Ok(out.flush()?)
    }

    fn print(&mut self, row: &Row, out: &mut Output) -> Result<(), End> {
        self.seen.insert(row.id(), ended(row));
        self.printer.print(row, out)
    }

    /// What has ended lately; says once if there is more of it than is looked at.
    fn recent(&mut self, now: SystemTime) -> Result<Vec<Row>, String> {
        let since = self.far_look.map(|last| now.duration_since(last).unwrap_or(FAR_INTERVAL));
        let is_far = since.is_none_or(|since| since >= FAR_INTERVAL);
        let reach = if is_far { FAR } else { NEAR };
        let filter = self.filter.clone().ended_since(now - reach.late, reach.duration);
        let page = record::list(self.location, &filter)?;
        if is_far {
            self.far_look = Some(now);
        }
        let is_behind = page.next.is_some();
        if is_behind && !self.is_behind {
            let seconds = reach.late.as_secs();
            eprintln!(
                "note: more than {} exchanges have ended in the last {seconds} s: not all of them are printed",
                self.filter.limit()
            );
        }
        self.is_behind = is_behind;
        Ok(page.exchanges)
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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A record in which exchanges end; times are in seconds.
    struct Subject {
        folder: tempfile::TempDir,
        connection: Connection,
    }

    impl Subject {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let connection = Connection::open(folder.path().join("record.db")).unwrap();
            record::create_tables(&connection).unwrap();
            Self { folder, connection }
        }

        fn put(&self, began: i64, took: i64, place: i64) {
            let sql = "INSERT INTO exchanges (id, request_id, started, stream, outcome, estimated, duration_ms, \
                       gateway_ms, request_bytes, response_bytes, request_cut, response_cut) \
                       VALUES (?1, 'a', '', 0, 'complete', 0, ?2, 0, 0, 0, 0, 0)";
            self.connection.execute(sql, (began * 1_000_000 * 1024 + place, took * 1000)).unwrap();
        }

        /// How many are found at these times.
        #[track_caller]
        fn check(&self, limit: usize, found: &[(u64, usize)]) -> bool {
            let location = Location::File(self.folder.path().join("record.db"));
            let printer = Printer::new(Format::Jsonl, Extent::Summary, None);
            let mut tail = Tail::new(&location, Filter::default().with_limit(limit), printer);
            for (now, expected) in found {
                let now_then = SystemTime::UNIX_EPOCH + Duration::from_secs(*now);
                assert_eq!(tail.recent(now_then).unwrap().len(), *expected, "at {now}");
            }
            tail.is_behind
        }
    }

    #[test]
    fn what_took_long_is_found_now_and_then_and_all_else_at_once() {
        let subject = Subject::new();
        let now = 1_795_277_760;
        subject.put(now - 50, 49, 0);
        subject.put(now - 3000, 2999, 0);
        subject.put(now - 4000, 3999, 0);
        let then = now as u64;
        // The first look is for all of the hour, then one a minute.
        subject.check(100, &[(then, 2), (then + 1, 1), (then + 29, 1), (then + 59, 0), (then + 60, 2)]);
    }

    #[test]
    fn it_is_known_that_some_are_left_out() {
        let subject = Subject::new();
        let now = 1_795_277_760;
        for place in 0..20 {
            subject.put(now - 5, 1, place);
        }
        assert!(subject.check(19, &[(now as u64, 19)]));
        assert!(!subject.check(20, &[(now as u64, 20)]));
    }
}

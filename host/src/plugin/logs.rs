//! The lines that plugins write to the gateway's log, tagged, bounded in size and limited in rate.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;
use tracing::{debug, enabled, error, info, trace, warn};

/// Lines a plugin may write at once.
pub(crate) const LINES_BURST: f64 = 100.0;

/// Lines a plugin may write in each second beyond that.
pub(crate) const LINES_PER_SECOND: f64 = 50.0;

/// Bytes of a line's message; what is longer is cut.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4096;

/// Bytes of all fields of a line together, names included; what is longer is cut.
pub(crate) const FIELDS_BYTES_MAX: usize = 4096;

/// What stands where something was cut.
const CUT: &str = "…";

/// The log of one plugin.
pub(crate) struct Log {
    plugin: String,
    allowance: Mutex<Allowance>,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Step by step.
    Trace,
    /// For somebody who looks for a defect.
    Debug,
    /// What happened.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// What may be written still: a bucket that drips full.
#[derive(Debug)]
struct Allowance {
    lines: f64,
    since: Instant,
    /// Lines dropped since the last one that was written.
    untold: u64,
    dropped: u64,
}

impl Log {
    /// The log of the plugin of this name.
    pub(crate) fn new(plugin: impl Into<String>, now: Instant) -> Self {
        let allowance = Allowance { lines: LINES_BURST, since: now, untold: 0, dropped: 0 };
        Self { plugin: plugin.into(), allowance: Mutex::new(allowance) }
    }

    /// The lowest level that is kept now; `Error` also when nothing is.
    pub(crate) fn max_level() -> Level {
        let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn];
        levels.into_iter().find(|level| level.is_kept()).unwrap_or(Level::Error)
    }

    /// Writes a line, unless nobody keeps its level or the plugin has written too many; the next line then tells how
    /// many were dropped.
    pub(crate) fn write(&self, level: Level, message: &str, fields: &[(String, String)], now: Instant) {
        if !level.is_kept() {
            return;
        }
        let Some(dropped) = self.allowance().take(now) else { return };
        let message = bounded(message, MESSAGE_BYTES_MAX);
        let fields = flat(fields);
        emit(level, &self.plugin, &message, &fields, dropped);
    }

    /// Lines that were dropped since the plugin was first loaded.
    pub(crate) fn dropped(&self) -> u64 {
        self.allowance().dropped
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().expect("no code panics while it holds this lock")
    }
}

impl Level {
    fn is_kept(self) -> bool {
        match self {
            Self::Trace => enabled!(target: "plugin", tracing::Level::TRACE),
            Self::Debug => enabled!(target: "plugin", tracing::Level::DEBUG),
            Self::Info => enabled!(target: "plugin", tracing::Level::INFO),
            Self::Warn => enabled!(target: "plugin", tracing::Level::WARN),
            Self::Error => enabled!(target: "plugin", tracing::Level::ERROR),
        }
    }
}

impl Allowance {
    /// Takes one line and returns how many were dropped before it, or counts it as dropped.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        // Two threads may come here in another order than they asked for the time.
        self.since = self.since.max(now);
        self.lines = (self.lines + passed * LINES_PER_SECOND).min(LINES_BURST);
        if self.lines < 1.0 {
            self.untold += 1;
            self.dropped += 1;
            return None;
        }
        self.lines -= 1.0;
        Some(std::mem::take(&mut self.untold))
    }
}

fn emit(level: Level, plugin: &str, message: &str, fields: &str, dropped: u64) {
    // Absent fields are left out of the line.
    let fields = (!fields.is_empty()).then_some(fields);
    let dropped = (dropped > 0).then_some(dropped);
    // The level is a part of what the macro makes once for each place, so that it cannot be a variable.
    match level {
        Level::Trace => trace!(target: "plugin", plugin, fields, dropped, "{message}"),
        Level::Debug => debug!(target: "plugin", plugin, fields, dropped, "{message}"),
        Level::Info => info!(target: "plugin", plugin, fields, dropped, "{message}"),
        Level::Warn => warn!(target: "plugin", plugin, fields, dropped, "{message}"),
        Level::Error => error!(target: "plugin", plugin, fields, dropped, "{message}"),
    }
}

/// Text of a plugin on one line: control characters, which could forge lines or colour a terminal, are escaped.
fn bounded(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    push(&mut line, text, bytes_max);
    line
}

/// The fields as one text: `name=value name="value with blanks"`.
fn flat(fields: &[(String, String)]) -> String {
    let mut line = String::new();
    for (name, value) in fields {
        if !line.is_empty() {
            line.push(' ');
        }
        let is_whole = push_word(&mut line, name)
            && push(&mut line, "=", FIELDS_BYTES_MAX)
            && push_word(&mut line, value);
        if !is_whole {
            break;
        }
    }
    line
}

/// Appends a name or value, in quotation marks where it could be mistaken for more than one.
fn push_word(line: &mut String, word: &str) -> bool {
    if !word.is_empty() && !word.contains([' ', '"', '=', '\\']) {
        return push(line, word, FIELDS_BYTES_MAX);
    }
    // What is beyond the bound need not be copied to be cut.
    let word = &word[..word.floor_char_boundary(FIELDS_BYTES_MAX)];
    line.push('"');
    let is_whole = push(line, &word.replace('\\', r"\\").replace('"', r#"\""#), FIELDS_BYTES_MAX);
    line.push('"');
    is_whole
}

/// Appends until the line has `bytes_max` bytes, and then [`CUT`]; whether all of it fitted.
fn push(line: &mut String, text: &str, bytes_max: usize) -> bool {
    for letter in text.chars() {
        if line.len() + letter.len_utf8() > bytes_max {
            line.push_str(CUT);
            return false;
        }
        if letter.is_control() {
            let _ = write!(line, "{}", letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[track_caller]
    fn check_flat(given: &[(&str, &str)], text: &str) {
        assert_eq!(flat(&fields(given)), text);
    }

    #[test]
    fn fields_become_one_text() {
        check_flat(&[], "");
        check_flat(&[("a", "1"), ("b", "two words")], r#"a=1 b="two words""#);
        check_flat(&[("a", ""), ("b", r#"say "x" \"#)], r#"a="" b="say \"x\" \\""#);
        check_flat(&[("a", "x\ny\u{1b}[31m")], r"a=x\ny\u{1b}[31m");
        check_flat(&[("a", "b=c")], r#"a="b=c""#);
        check_flat(&[("a=1 b", "2")], r#""a=1 b"=2"#);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(bounded(&long, 5), "éé…");
        assert_eq!(bounded("12345", 5), "12345");
        let line = flat(&fields(&[("a", &long), ("b", "never")]));
        assert!(line.ends_with('…') && line.len() <= FIELDS_BYTES_MAX + CUT.len());
        let line = flat(&fields(&[("a", &" ".repeat(2 * FIELDS_BYTES_MAX)), ("b", "never")]));
        assert!(line.ends_with("…\"") && line.len() <= FIELDS_BYTES_MAX + CUT.len() + 1);
    }

    #[track_caller]
    fn check_take(allowance: &mut Allowance, now: Instant, asked: usize, granted: usize) {
        assert_eq!((0..asked).filter(|_| allowance.take(now).is_some()).count(), granted);
    }

    #[test]
    fn a_burst_and_then_a_rate_are_granted() {
        let now = Instant::now();
        let mut allowance = Allowance { lines: LINES_BURST, since: now, untold: 0, dropped: 0 };
        check_take(&mut allowance, now, 150, 100);
        check_take(&mut allowance, now + Duration::from_millis(100), 10, 5);
        check_take(&mut allowance, now + Duration::from_secs(60), 150, 100);
        // A clock that seems to go back grants nothing.
        check_take(&mut allowance, now, 1, 0);
        assert_eq!(allowance.dropped, 50 + 5 + 50 + 1);
        assert_eq!(allowance.take(now + Duration::from_secs(61)), Some(51));
    }

    /// Everything that is logged, as JSON lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is logged at `level` and above while `work` runs.
    fn logged(level: tracing::Level, work: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().json().with_max_level(level).with_writer(lines.clone()).finish();
        with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_tagged_and_tells_what_was_dropped_before_it() {
        let now = Instant::now();
        let log = Log::new("my-plugin", now);
        let lines = logged(tracing::Level::TRACE, || {
            assert_eq!(Log::max_level(), Level::Trace);
            (0..103).for_each(|_| log.write(Level::Debug, "many", &[], now));
            log.write(Level::Warn, "odd\n", &fields(&[("a", "1")]), now + Duration::from_secs(1));
        });
        assert_eq!(lines.len(), 101);
        assert_eq!(lines[99]["fields"], serde_json::json!({ "message": "many", "plugin": "my-plugin" }));
        let last = &lines[100];
        assert_eq!((&last["target"], &last["level"]), (&"plugin".into(), &"WARN".into()));
        let told =
            serde_json::json!({ "message": r"odd\n", "plugin": "my-plugin", "fields": "a=1", "dropped": 3 });
        assert_eq!(last["fields"], told);
        assert_eq!(log.dropped(), 3);
    }

    #[test]
    fn what_nobody_keeps_costs_nothing_of_the_allowance() {
        let now = Instant::now();
        let log = Log::new("p", now);
        let lines = logged(tracing::Level::WARN, || {
            assert_eq!(Log::max_level(), Level::Warn);
            (0..1000).for_each(|_| log.write(Level::Info, "quiet", &[], now));
            log.write(Level::Error, "loud", &[], now);
        });
        assert_eq!((lines.len(), log.dropped()), (1, 0));
    }

    proptest! {
        #[test]
        fn a_line_is_one_bounded_line(
            message in "\\PC{0,50}|.{0,50}",
            name in ".{0,20}",
            value in ".{0,50}",
            bytes_max in 0usize..60,
        ) {
            let line = bounded(&message, bytes_max);
            prop_assert!(!line.contains(char::is_control));
            prop_assert!(line.len() <= bytes_max + 10 + CUT.len());
            prop_assert!(!flat(&[(name, value)]).contains(char::is_control));
        }
    }
}

//! Hands lines to a thread that writes them, so that nobody who has something to say waits for a disk or a terminal.
//! Files and standard error have a thread each: whoever reads the one and stops must not cost lines of the other.
//!
//! Lines are joined for a moment before they are written: a busy gateway pays for a few writes a second, not for one a
//! line. What is waiting is bounded; lines beyond that are dropped, counted, and reported by the thread itself.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::files::Kind;

/// The most that may wait to be written, in bytes.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// How long lines are gathered before they are written.
const GATHER_TIME: Duration = Duration::from_millis(20);
/// As many bytes are written without waiting for more.
const GATHER_BYTES: usize = 256 << 10;
/// Failures are told at most this often, and so are losses.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of the files.
    File(Kind),
    /// Standard error.
    Console,
}

impl Place {
    const ALL: [Self; 4] =
        [Self::File(Kind::Info), Self::File(Kind::Error), Self::File(Kind::System), Self::Console];

    fn index(self) -> usize {
        match self {
            Self::File(kind) => kind as usize,
            Self::Console => 3,
        }
    }
}

/// Lines on their way to the thread.
#[derive(Default)]
pub(super) struct Writer {
    state: Mutex<State>,
    /// There is something to do, or all has been done.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: [Vec<u8>; Place::ALL.len()],
    /// Bytes of all lines, the ones that are being written included.
    bytes: usize,
    /// Lines that were dropped because too many were waiting, ever.
    dropped: u64,
    /// Lines that could not be written, ever.
    failed: u64,
    /// Somebody waits for everything to be written.
    is_urgent: bool,
}

impl Writer {
    /// Starts a thread of this name, which has `write` write lines. It runs as long as the process.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub(super) fn start(
        name: &str,
        write: impl FnMut(Place, &[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let writer = Arc::new(Self::default());
        let shared = writer.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || shared.run(write))?;
        Ok(writer)
    }

    /// Hands over a line, which ends with a line feed. Never waits for what is written.
    pub(super) fn push(&self, place: Place, line: &[u8]) {
        let mut state = self.state();
        if state.bytes + line.len() > WAITING_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        let was_idle = state.bytes == 0;
        let was_few = state.bytes < GATHER_BYTES;
        state.bytes += line.len();
        let is_many = state.bytes >= GATHER_BYTES;
        state.lines[place.index()].extend_from_slice(line);
        drop(state);
        if was_idle || was_few && is_many {
            self.changed.notify_all();
        }
    }

    /// How many lines were dropped because too many were waiting, or could not be written, ever.
    pub(super) fn lost(&self) -> u64 {
        let state = self.state();
        state.dropped + state.failed
    }

    /// Waits until everything handed over has been written, but not longer than until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let mut state = self.state();
        state.is_urgent = true;
        self.changed.notify_all();
        while state.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self.changed.wait_timeout(state, left).expect(UNPOISONED);
        }
        state.is_urgent = false;
    }

    fn run(&self, mut write: impl FnMut(Place, &[u8]) -> io::Result<()>) {
        let mut batch: [Vec<u8>; Place::ALL.len()] = Default::default();
        let mut losses = Losses::default();
        loop {
            let dropped = self.take(&mut batch);
            let mut failed = 0;
            for (place, lines) in Place::ALL.into_iter().zip(&batch).filter(|(_, lines)| !lines.is_empty()) {
                let written = write(place, lines);
                if written.is_err() {
                    failed += memchr::memchr_iter(b'\n', lines).count() as u64;
                }
                losses.note(place, written);
            }
            self.done(&mut batch, failed);
            // After there is room again: what is told is a line, too.
            losses.report(dropped, failed);
        }
    }

    /// Waits for lines, gathers more for a moment, and takes them all; says how many were dropped so far.
    fn take(&self, batch: &mut [Vec<u8>; Place::ALL.len()]) -> u64 {
        let mut state = self.changed.wait_while(self.state(), |state| state.bytes == 0).expect(UNPOISONED);
        let gathers = |state: &mut State| state.bytes < GATHER_BYTES && !state.is_urgent;
        (state, _) = self.changed.wait_timeout_while(state, GATHER_TIME, gathers).expect(UNPOISONED);
        std::mem::swap(&mut state.lines, batch);
        state.dropped
    }

    fn done(&self, batch: &mut [Vec<u8>; Place::ALL.len()], failed: u64) {
        let mut state = self.state();
        state.failed += failed;
        for lines in batch {
            state.bytes -= lines.len();
            lines.clear();
            // The memory of a flood is not kept for ever.
            lines.shrink_to(GATHER_BYTES);
        }
        let is_idle = state.bytes == 0;
        drop(state);
        if is_idle {
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "no code panics while it holds this lock";

/// What could not be written, and what was told of it. Its own lines go the same way as all others: what is told must not
/// depend on how they fare.
#[derive(Default)]
struct Losses {
    /// The places whose failure was told, until something is written there again.
    is_told: [bool; Place::ALL.len()],
    /// When a failure was told last.
    failure_told: Option<Instant>,
    /// Lines that were dropped as of the last report.
    dropped_told: u64,
    failed_untold: u64,
    /// When lost lines were told last.
    losses_told: Option<Instant>,
}

impl Losses {
    /// Tells that a place cannot be written to any more, once for as long as it lasts.
    fn note(&mut self, place: Place, written: io::Result<()>) {
        let is_told = &mut self.is_told[place.index()];
        match written {
            Ok(()) => *is_told = false,
            Err(error) if !*is_told && is_due(self.failure_told) => {
                *is_told = true;
                self.failure_told = Some(Instant::now());
                tracing::error!(%error, ?place, "the log cannot be written; give it room, or correct `log.dir`");
            }
            Err(_) => {}
        }
    }

    /// Tells now and then how many lines were lost: how many were dropped ever, and how many failed just now.
    fn report(&mut self, dropped: u64, failed: u64) {
        self.failed_untold += failed;
        let (dropped_untold, failed) = (dropped - self.dropped_told, self.failed_untold);
        if dropped_untold + failed == 0 || !is_due(self.losses_told) {
            return;
        }
        tracing::warn!(dropped = dropped_untold, failed, "lines of the log were lost");
        self.losses_told = Some(Instant::now());
        (self.dropped_told, self.failed_untold) = (dropped, 0);
    }
}

fn is_due(told: Option<Instant>) -> bool {
    told.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL)
}

/// Brings what `tracing` formats to its place.
pub(super) struct Events {
    /// Whose thread writes it.
    pub(super) writer: Arc<Writer>,
    /// Where it goes.
    pub(super) place: Place,
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one event, which comes in one piece.
pub(super) struct Line<'a>(&'a Events);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.writer.push(self.0.place, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing::subscriber::with_default;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A writer that a test holds up: what is being written, and how each writing is to end.
    fn held() -> (Arc<Writer>, mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<()>>) {
        let ((begun, hear), (allow, may_end)) = (mpsc::channel(), mpsc::channel());
        let write = move |_, lines: &[u8]| {
            let _ = begun.send(lines.to_vec());
            may_end.recv().unwrap_or(Ok(()))
        };
        (Writer::start("test", write).unwrap(), hear, allow)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (writer, hear, allow) = held();
        drop(allow);
        let lines: Vec<String> = (0..10_000).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            writer.push(Place::Console, line.as_bytes());
        }
        writer.flush(Instant::now() + PATIENCE);
        assert_eq!(hear.try_iter().flatten().collect::<Vec<u8>>(), lines.concat().into_bytes());
        assert_eq!(writer.lost(), 0);
    }

    #[test]
    fn what_cannot_wait_any_more_is_counted_and_nobody_waits() {
        let (writer, hear, allow) = held();
        writer.push(Place::Console, b"first\n");
        assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), b"first\n");
        let line = vec![b'x'; WAITING_BYTES_MAX / 8];
        // The disk hangs: what fits waits, the rest is dropped.
        (0..20).for_each(|_| writer.push(Place::File(Kind::Info), &line));
        assert_eq!(writer.lost(), 20 - 7);
        allow.send(Ok(())).unwrap();
        assert_eq!(hear.recv_timeout(PATIENCE).unwrap().len(), 7 * line.len());
        allow.send(Ok(())).unwrap();
        writer.flush(Instant::now() + PATIENCE);
        writer.push(Place::Console, b"last\n");
        assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), b"last\n");
        assert_eq!(writer.lost(), 13);
    }

    #[test]
    fn a_failure_is_no_end() {
        let (writer, hear, allow) = held();
        for line in [b"1\n", b"2\n"] {
            writer.push(Place::Console, line);
            assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), line);
            allow.send(Err(io::Error::other("full"))).unwrap();
            writer.flush(Instant::now() + PATIENCE);
        }
        assert_eq!(writer.lost(), 2);
    }

    /// What is told of so many batches, each written to a place that takes it and to one that fails as often as `fails` says.
    fn told(fails: impl Fn(u64) -> bool) -> String {
        let writer = Arc::new(Writer::default());
        let events = Events { writer: writer.clone(), place: Place::Console };
        let subscriber = tracing_subscriber::fmt().with_writer(events).with_ansi(false).finish();
        with_default(subscriber, || {
            let mut losses = Losses::default();
            for batch in 0..100 {
                let is_failing = fails(batch);
                let written = if is_failing { Err(io::Error::other("not ours")) } else { Ok(()) };
                losses.note(Place::File(Kind::Error), written);
                losses.note(Place::File(Kind::System), Ok(()));
                losses.report(batch, u64::from(is_failing));
            }
        });
        let lines = &writer.state().lines[Place::Console.index()];
        String::from_utf8(lines.clone()).unwrap()
    }

    #[test]
    fn a_place_that_fails_is_told_of_once_whatever_else_is_written() {
        for text in [told(|_| true), told(|batch| batch % 2 == 0)] {
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("the log cannot be written") && text.contains("File(Error)"), "{text}");
            assert!(text.contains("lines of the log were lost dropped=0 failed=1"), "{text}");
        }
        assert!(!told(|_| false).contains("cannot be written"));
    }

    #[test]
    fn a_flush_waits_only_so_long() {
        let (writer, hear, allow) = held();
        writer.push(Place::Console, b"1\n");
        hear.recv_timeout(PATIENCE).unwrap();
        let began = Instant::now();
        writer.flush(began + Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
        allow.send(Ok(())).unwrap();
    }
}

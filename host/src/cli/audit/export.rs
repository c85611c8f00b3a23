//! `witgate audit export`: exchanges with everything, in one file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use clap::ValueEnum;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rusqlite::{Connection, params_from_iter};
use tokio::signal::unix::{SignalKind, signal};

use super::output::End;
use super::{ExportArguments, INTERRUPTED, Source, for_each_whole, show};
use crate::audit::query::{self as record, Attempt, Extent, Filter, Location, Row};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a head line
    Csv,
    /// A database with the same tables
    Sqlite,
}

/// Who may read the file: it holds what people say to models.
const FILE_MODE: u32 = 0o600;
/// The status of a process that was told to end. Source: the shells' 128 + SIGTERM.
const TERMINATED: i32 = 143;
/// Rows of one transaction.
const TRANSACTION_ROWS: u64 = 500;

/// Writes the exchanges that match, the newest first, to a file beside the one named, and then gives it that name.
///
/// # Errors
///
/// When the record cannot be read, the file not be written, or a value makes no sense. The file named stays as it was, but
/// where only a part of the record cannot be read: then it has the rest.
pub(super) fn run(arguments: &ExportArguments, source: &Source<'_>) -> Result<(), End> {
    let filter = arguments.filter.filter(&[])?;
    let is_compressed = arguments.output.extension().is_some_and(|extension| extension == "gz");
    if is_compressed && arguments.format == Kind::Sqlite {
        return Err(End::Misused(
            "a database cannot be compressed while it is written: leave `.gz` out".to_owned(),
        ));
    }
    let location = source.location(&arguments.place)?;
    let beside = Beside::new(&arguments.output)?;
    remove_if_interrupted(beside.path.clone())?;
    let mut sink = Sink::open(&beside.path, arguments.format, is_compressed)
        .map_err(|error| wrong(&beside.path, &error))?;
    let bar = progress(&location, &filter)?;
    let mut count: u64 = 0;
    let done = for_each_whole(&location, &filter, u64::MAX, |row| {
        sink.write(&row).map_err(|error| wrong(&beside.path, &error))?;
        count += 1;
        bar.inc(1);
        Ok(())
    });
    bar.finish_and_clear();
    let has_gaps = done?.has_gaps;
    sink.finish().map_err(|error| wrong(&beside.path, &error))?;
    beside.keep(&arguments.output).map_err(|error| wrong(&arguments.output, &error))?;
    let noun = if count == 1 { "exchange" } else { "exchanges" };
    eprintln!("{count} {noun} written to `{}`", arguments.output.display());
    if has_gaps {
        return Err(End::Failed(
            "the export is incomplete: the files named above could not be read".to_owned(),
        ));
    }
    Ok(())
}

/// Has a file removed when the process is told to end, from now on: it holds what people say to models.
fn remove_if_interrupted(path: PathBuf) -> Result<(), String> {
    let wrong = |error: io::Error| format!("cannot listen to signals: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(wrong)?;
    // Before there is a file: a signal without a handler would end the process.
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(wrong)?, signal(SignalKind::terminate()).map_err(wrong)?)
    };
    let watch = move || {
        let status = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => INTERRUPTED,
                _ = terminate.recv() => TERMINATED,
            }
        });
        // It may have got its name by now.
        let _ = fs::remove_file(&path);
        std::process::exit(status);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(wrong)?;
    Ok(())
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("`{}` cannot be written: {error}", path.display())
}

/// A bar where somebody sees it. Counting beforehand is worth it only if it is quick.
fn progress(location: &Location, filter: &Filter) -> Result<ProgressBar, String> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let target = ProgressDrawTarget::stderr();
    let (total, template) = if filter.reads_bodies() {
        (None, "{spinner} {pos} exchanges, {elapsed}")
    } else {
        (Some(record::count(location, filter)?), "{bar:30} {pos} of {len} exchanges, {eta} left")
    };
    let style =
        ProgressStyle::with_template(template).map_err(|error| format!("the progress bar: {error}"))?;
    Ok(ProgressBar::with_draw_target(total, target).with_style(style))
}

/// A file beside the one that is to be; it is removed unless it is kept.
struct Beside {
    path: PathBuf,
    is_kept: bool,
}

impl Beside {
    fn new(output: &Path) -> Result<Self, String> {
        let name =
            output.file_name().ok_or_else(|| format!("`{}` is no name of a file", output.display()))?;
        if output.is_dir() {
            return Err(format!("`{}` is a folder", output.display()));
        }
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.part", std::process::id()));
        Ok(Self { path: output.with_file_name(beside), is_kept: false })
    }

    fn keep(mut self, output: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, output)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_kept {
            // It may never have been made.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where exchanges go.
enum Sink {
    Json(Stream),
    Csv(Stream),
    Database(Database),
}

impl Sink {
    fn open(path: &Path, kind: Kind, is_compressed: bool) -> Result<Self, String> {
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
        let file = file.map_err(|error| error.to_string())?;
        let stream = |file| {
            if is_compressed {
                Stream::Compressed(GzEncoder::new(BufWriter::new(file), Compression::default()))
            } else {
                Stream::Plain(BufWriter::new(file))
            }
        };
        Ok(match kind {
            Kind::Jsonl => Self::Json(stream(file)),
            Kind::Csv => {
                let mut stream = stream(file);
                stream.write(&show::csv_head(Extent::Whole)?)?;
                Self::Csv(stream)
            }
            Kind::Sqlite => Self::Database(Database::create(path).map_err(|error| error.to_string())?),
        })
    }

    fn write(&mut self, row: &Row) -> Result<(), String> {
        match self {
            Self::Json(stream) => stream.write(&(show::json(row)? + "\n")),
            Self::Csv(stream) => stream.write(&show::csv_line(row)?),
            Self::Database(database) => database.write(row).map_err(|error| error.to_string()),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self {
            Self::Json(stream) | Self::Csv(stream) => stream.finish().map_err(|error| error.to_string()),
            Self::Database(database) => {
                database.connection.execute_batch("COMMIT").map_err(|error| error.to_string())
            }
        }
    }
}

/// A file of text.
enum Stream {
    Plain(BufWriter<File>),
    Compressed(GzEncoder<BufWriter<File>>),
}

impl Stream {
    fn write(&mut self, text: &str) -> Result<(), String> {
        let written = match self {
            Self::Plain(file) => file.write_all(text.as_bytes()),
            Self::Compressed(file) => file.write_all(text.as_bytes()),
        };
        written.map_err(|error| error.to_string())
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Compressed(file) => file.finish()?.flush(),
        }
    }
}

/// A database with the tables of the audit. A transaction is open between two writes.
struct Database {
    connection: Connection,
    insert: [String; 2],
    rows: u64,
}

impl Database {
    fn create(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        record::create_tables(&connection)?;
        // If anything goes wrong the whole file is thrown away.
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
        let insert = |table: &str, first: &str, columns: &[record::Column]| {
            let names: Vec<&str> =
                std::iter::once(first).chain(columns.iter().map(|column| column.name)).collect();
            let names = names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>();
            format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                names.join(", "),
                vec!["?"; names.len()].join(", ")
            )
        };
        let insert = [
            insert("exchanges", "", Extent::Whole.columns()),
            insert("attempts", "exchange", &Attempt::COLUMNS),
        ];
        Ok(Self { connection, insert, rows: 0 })
    }

    fn write(&mut self, row: &Row) -> rusqlite::Result<()> {
        let [exchange, attempt] = &self.insert;
        self.connection.prepare(exchange)?.execute(params_from_iter(row.values()))?;
        for tried in row.attempts() {
            let id = rusqlite::types::Value::Integer(row.id());
            let values = std::iter::once(&id).chain(tried.values());
            self.connection.prepare(attempt)?.execute(params_from_iter(values))?;
        }
        self.rows += 1;
        if self.rows.is_multiple_of(TRANSACTION_ROWS) {
            self.connection.execute_batch("COMMIT; BEGIN")?;
        }
        Ok(())
    }
}

//! `witgate audit`: what operators ask the record for.

mod export;
mod outline;
mod output;
mod query;
mod replay;
mod show;
mod table;
mod tail;

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use self::output::{End, Output};
use crate::audit::query::{self as record, Extent, Filter, Location, Row};
use crate::config::env::Environment;
use crate::config::{self, Config, Overrides};

/// The status of a command line that cannot be understood. Source: clap, as for all other arguments.
const MISUSED: u8 = 2;
/// The status of a process that was interrupted. Source: the shells' 128 + SIGINT.
const INTERRUPTED: i32 = 130;
/// How many whole exchanges are in memory at once.
const WHOLE_ROWS_MAX: usize = 32;

/// The subcommands of `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find exchanges, or show one of them
    Query(QueryArguments),
    /// Print exchanges as they end, until Ctrl-C; not those that took more than an hour
    Tail(TailArguments),
    /// Write exchanges to a file, with bodies and attempts; fails if some of them cannot be read
    Export(ExportArguments),
    /// Send a stored request again, or show what other plugins would have made of it
    Replay(ReplayArguments),
}

/// Where the record is.
#[derive(Args, Debug)]
pub struct PlaceArguments {
    /// The live file of the audit [default: what the configuration says, which may be a database]
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,
}

/// Which exchanges are asked for.
#[derive(Args, Debug, Default, PartialEq)]
pub struct FilterArguments {
    /// Not before: RFC 3339, a date, or 15m, 2h, 7d ago; in UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Not from then on; a date is included
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Model, by the client's or the upstream's name; `*` is any text, here and in the names below
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Name of the key
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Caller
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// Tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Upstream that was tried
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Endpoint, such as `chat.completions`
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// Status: 404, 5xx, '>=400'; several with commas
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// How it ended: complete, cancelled, refused, rejected or failed
    #[arg(long, value_name = "WORD")]
    pub outcome: Option<String>,
    /// Text in the request or the answer, in either case
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Label that a plugin gave; may be repeated
    #[arg(long = "label", value_name = "NAME[:VALUE]")]
    pub labels: Vec<String>,
}

/// What is printed of exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a head line
    Csv,
}

/// What `query` is asked.
#[derive(Args, Debug)]
pub struct QueryArguments {
    /// Number or request id of one exchange, to show it
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    #[command(flatten)]
    pub filter: FilterArguments,
    /// Most exchanges that are printed, the newest first: 1 to 10000
    #[arg(long, value_name = "COUNT", default_value = "50")]
    pub limit: String,
    /// Only those with a smaller number: the next page
    #[arg(long, value_name = "NUMBER")]
    pub before: Option<String>,
    /// How they are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// With headers, bodies and attempts
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub place: PlaceArguments,
}

/// What `tail` is asked.
#[derive(Args, Debug)]
pub struct TailArguments {
    #[command(flatten)]
    pub filter: FilterArguments,
    /// How many that have ended already are printed first
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub lines: u16,
    /// How they are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    #[command(flatten)]
    pub place: PlaceArguments,
}

/// What `export` is asked.
#[derive(Args, Debug)]
pub struct ExportArguments {
    /// File to write; with the ending `.gz` it is compressed
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// What is written
    #[arg(long, value_enum, default_value_t = export::Kind::Jsonl)]
    pub format: export::Kind,
    #[command(flatten)]
    pub filter: FilterArguments,
    #[command(flatten)]
    pub place: PlaceArguments,
}

/// What `replay` is asked.
#[derive(Args, Debug)]
pub struct ReplayArguments {
    /// Number or request id of the exchange
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where to send the request [default: the gateway of the configuration]
    #[arg(long, value_name = "URL", conflicts_with = "plugins")]
    pub to: Option<String>,
    /// Send nothing, but show what the plugins of this configuration make of request and answer. They run as they
    /// would in a gateway: what they are granted to reach is reached
    #[arg(long, value_name = "FILE")]
    pub plugins: Option<PathBuf>,
    /// Key to send it with; the stored one is not known. Other users of the machine may see a command line: the variable
    /// WITGATE_REPLAY_KEY says it, too
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    #[command(flatten)]
    pub place: PlaceArguments,
}

/// Does what a subcommand says.
///
/// Exits with 0 also when nothing was found by a search, with 1 when something went wrong and with 2 when it could not
/// be understood.
pub(super) fn run(command: &AuditCommand, config: Option<&Path>, environment: &Environment) -> ExitCode {
    let source = Source { config, environment };
    let mut output = Output::new();
    let done = match command {
        AuditCommand::Query(arguments) => query::run(arguments, &source, &mut output),
        AuditCommand::Tail(arguments) => tail::run(arguments, &source, &mut output),
        AuditCommand::Export(arguments) => export::run(arguments, &source),
        AuditCommand::Replay(arguments) => replay::run(arguments, &source, &mut output),
    };
    match done.and_then(|()| Ok(output.flush()?)) {
        // Whoever reads has seen enough.
        Ok(()) | Err(End::Gone) => ExitCode::SUCCESS,
        Err(End::Failed(message)) => {
            eprintln!("{}", output::visible(message.trim_end()));
            ExitCode::FAILURE
        }
        Err(End::Misused(message)) => {
            eprintln!("{}", output::visible(&message));
            ExitCode::from(MISUSED)
        }
    }
}

/// Where the answers to questions about the gateway are.
struct Source<'a> {
    config: Option<&'a Path>,
    environment: &'a Environment,
}

impl Source<'_> {
    /// The live file, or the database.
    fn location(&self, place: &PlaceArguments) -> Result<Location, String> {
        let Some(path) = &place.db else { return Ok(Location::of(&self.config()?.audit)) };
        // A mistyped path would look like an empty record.
        if path.exists() {
            Ok(Location::File(path.clone()))
        } else {
            Err(format!("there is no file `{}`", path.display()))
        }
    }

    /// The configuration that `serve` would find.
    fn config(&self) -> Result<Config, String> {
        let origin = config::locate(self.config, self.environment);
        match config::load(&origin, self.environment, &Overrides::default()) {
            Ok((config, _)) => Ok(config),
            Err(problems) => {
                let hint =
                    "the configuration says where the record is: mend it, or name the file with `--db`";
                Err(format!("{problems}{hint}"))
            }
        }
    }
}

impl FilterArguments {
    /// The filter that they amount to, with further named values.
    fn filter<'a>(&'a self, further: &[(&'a str, &'a str)]) -> Result<Filter, End> {
        let single = [
            ("since", &self.since),
            ("until", &self.until),
            ("model", &self.model),
            ("key", &self.key),
            ("caller", &self.caller),
            ("tenant", &self.tenant),
            ("ip", &self.ip),
            ("upstream", &self.upstream),
            ("endpoint", &self.endpoint),
            ("status", &self.status),
            ("outcome", &self.outcome),
            ("text", &self.text),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let labels = self.labels.iter().map(|label| ("label", label.as_str()));
        let pairs = single.chain(labels).chain(further.iter().copied());
        Filter::parse(pairs).map_err(End::Misused)
    }
}

/// What [`for_each_whole`] has seen.
struct Seen {
    /// Where the next exchanges are, if there are more.
    next: Option<i64>,
    /// Whether there were files that could not be read.
    has_gaps: bool,
}

/// Shows at most so many exchanges that match, the newest first, some at a time, so that their bodies fit into memory.
/// What cannot be read is said as soon as it is met, each file's trouble once.
fn for_each_whole(
    location: &Location,
    filter: &Filter,
    mut count_max: u64,
    mut show: impl FnMut(Row) -> Result<(), End>,
) -> Result<Seen, End> {
    let mut filter = filter.clone();
    let (mut told, mut next) = (HashSet::new(), None);
    while count_max > 0 {
        let limit = usize::try_from(count_max).unwrap_or(usize::MAX).min(WHOLE_ROWS_MAX);
        let page = record::page(location, &filter.clone().with_limit(limit), Extent::Whole)?;
        // Older files are looked into only when a page needs them, so that each page may have its own.
        let notes: Vec<String> = page.notes.into_iter().filter(|note| told.insert(note.clone())).collect();
        tell(&notes);
        count_max = count_max.saturating_sub(page.exchanges.len() as u64);
        for row in page.exchanges {
            show(row)?;
        }
        next = page.next;
        match next {
            Some(before) => filter = filter.with_before(Some(before)),
            None => break,
        }
    }
    Ok(Seen { next, has_gaps: !told.is_empty() })
}

/// Says what could not be read.
fn tell(notes: &[String]) {
    for note in notes {
        eprintln!("note: {}", output::visible(note));
    }
}

/// The one exchange that an id means, as a whole.
///
/// # Errors
///
/// A message when there is none, or when there are several: then it has their numbers.
fn the_one(location: &Location, id: &str) -> Result<Row, End> {
    let found = record::find(location, id)?;
    match &*found {
        [] => Err(End::Failed(format!("there is no exchange `{id}` in `{location}`"))),
        [one] => Ok(record::whole(location, one.id())?
            .ok_or_else(|| "the exchange was removed meanwhile".to_owned())?),
        several => {
            let numbers: Vec<String> = several.iter().map(|row| format!("  {}", row.id())).collect();
            Err(End::Failed(format!(
                "{} exchanges have the request id `{id}`; give the number of one:\n{}",
                several.len(),
                numbers.join("\n")
            )))
        }
    }
}

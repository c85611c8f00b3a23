//! What was recorded, found again.
//!
//! Reads the live file and the closed ones beside it, or the database, while a gateway writes and when none runs, without
//! ever holding it up: each file in one read-only transaction, which ends as soon as nobody waits for it any more. Statements are put together from fixed pieces; every value of an
//! operator is a parameter.

mod files;
mod filter;
mod row;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params_from_iter};
use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use self::filter::Filter;
pub(crate) use self::row::{Attempt, Column, Extent, Row, began};
use crate::audit::postgres::Reader;
use crate::audit::query::files::File;
use crate::audit::schema;
use crate::config;

/// Where what was recorded is.
pub(crate) enum Location {
    /// The live file, which need not be there.
    File(PathBuf),
    /// A database.
    Postgres(Box<Reader>),
}

/// Where to look, and until when.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    place: Place<'a>,
    /// Ends what is looked for, once it is cancelled.
    stop: Option<&'a CancellationToken>,
}

impl<'a> Source<'a> {
    /// Looks until `stop` is cancelled: what is asked for then is an error.
    pub(crate) fn until(location: &'a Location, stop: &'a CancellationToken) -> Self {
        Self { stop: Some(stop), ..Self::from(location) }
    }
}

/// What there is to look into.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// The live file and the closed ones beside it.
    Files(&'a Path),
    /// A database.
    Postgres(&'a Reader),
}

/// What is looked into at once.
enum Part<'a> {
    /// A file.
    File(File<'a>),
    /// All of a database.
    Postgres(&'a Reader, Option<&'a CancellationToken>),
}

impl Location {
    /// Where the settings say.
    pub(crate) fn of(settings: &config::Audit) -> Self {
        match &settings.postgres {
            Some(database) => Self::Postgres(Box::new(Reader::new(database))),
            None => Self::File(settings.path.clone()),
        }
    }

    /// Whether it is known that there is no live file.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::File(path) => !path.exists(),
            Self::Postgres(_) => false,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Postgres(reader) => write!(formatter, "{}", reader.place()),
        }
    }
}

impl<'a> From<&'a Location> for Source<'a> {
    /// Looks to the end, however long that takes.
    fn from(location: &'a Location) -> Self {
        match location {
            Location::File(path) => Self::from(path),
            Location::Postgres(reader) => Self { place: Place::Postgres(reader), stop: None },
        }
    }
}

impl<'a> From<&'a Path> for Source<'a> {
    /// Looks to the end, however long that takes.
    fn from(path: &'a Path) -> Self {
        Self { place: Place::Files(path), stop: None }
    }
}

impl<'a> From<&'a PathBuf> for Source<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

/// Some exchanges, the newest first.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// The exchanges.
    pub(crate) exchanges: Vec<Row>,
    /// What `before` has to be for the next page; none if this is the last.
    #[serde(serialize_with = "as_text")]
    pub(crate) next: Option<i64>,
    /// Files that could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// Finds exchanges, without headers, bodies and attempts.
///
/// # Errors
///
/// A message when the live file or the folder cannot be read, or when it was stopped; a closed file that cannot be read
/// is a note of the page.
pub(crate) fn list<'a>(source: impl Into<Source<'a>>, filter: &Filter) -> Result<Page, String> {
    page(source, filter, Extent::Summary)
}

/// Finds exchanges and reads so much of each. With [`Extent::Whole`] all bodies of the page are in memory at once.
///
/// # Errors
///
/// As [`list`].
pub(crate) fn page<'a>(
    source: impl Into<Source<'a>>,
    filter: &Filter,
    extent: Extent,
) -> Result<Page, String> {
    let source = source.into();
    let mut rows: Vec<Row> = Vec::new();
    // One more than is asked for tells whether there are more.
    let wanted = filter.limit + 1;
    let notes = for_each_part(source, filter, |part, period_end| {
        // Whatever the other files hold is older than all that was found.
        if rows.len() >= wanted && rows.last().is_some_and(|row| period_end <= row.id()) {
            return Ok(());
        }
        let more = match part {
            Part::File(file) => files::read(file, |connection| select(connection, filter, extent, wanted))?,
            Part::Postgres(reader, stop) => Some(reader.select(stop, filter, extent, wanted)?),
        };
        rows.extend(more.into_iter().flatten());
        rows.sort_by_key(|row| std::cmp::Reverse(row.id()));
        // A file that was closed meanwhile was read twice.
        rows.dedup_by_key(|row| row.id());
        rows.truncate(wanted);
        Ok(())
    })?;
    let has_more = rows.len() == wanted;
    rows.truncate(filter.limit);
    let next = rows.last().filter(|_| has_more).map(Row::id);
    Ok(Page { exchanges: rows, next, notes })
}

/// Counts all exchanges that match, whatever the limit of the filter.
///
/// # Errors
///
/// As [`list`].
pub(crate) fn count<'a>(source: impl Into<Source<'a>>, filter: &Filter) -> Result<u64, String> {
    let mut sum = 0;
    for_each_part(source.into(), filter, |part, _| {
        sum += match part {
            Part::File(file) => {
                let count = files::read(file, |connection| count_rows(connection, filter))?;
                count.unwrap_or(0).unsigned_abs()
            }
            Part::Postgres(reader, stop) => reader.count(stop, filter)?,
        };
        Ok(())
    })?;
    Ok(sum)
}

/// One exchange as a whole by its number or its request's id, as JSON.
///
/// Clients choose ids, so that several may have the same: the newest is given, and the numbers of the others as `also`.
///
/// # Errors
///
/// As [`list`].
pub(crate) fn get<'a>(source: impl Into<Source<'a>>, id: &str) -> Result<Option<Value>, String> {
    let source = source.into();
    let mut rows = find(source, id)?.into_iter();
    let Some(newest) = rows.next() else { return Ok(None) };
    let whole = whole(source, newest.id())?.unwrap_or(newest);
    let mut value =
        serde_json::to_value(whole).map_err(|error| format!("the row cannot be shown: {error}"))?;
    let also: Vec<Value> = rows.map(|row| Value::from(row.id().to_string())).collect();
    if let (false, Some(object)) = (also.is_empty(), value.as_object_mut()) {
        object.insert("also".to_owned(), Value::from(also));
    }
    Ok(Some(value))
}

/// The exchanges with that number or request id, the newest first, as summaries.
///
/// # Errors
///
/// As [`list`], and when the id is longer than any is.
pub(crate) fn find<'a>(source: impl Into<Source<'a>>, id: &str) -> Result<Vec<Row>, String> {
    let source = source.into();
    let number = id.parse::<i64>().ok().filter(|number| *number > 0);
    if let Some(number) = number
        && let Some(row) = by_number(source, number, Extent::Summary)?
    {
        return Ok(vec![row]);
    }
    if id.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter::parse([("id", id)])?.with_limit(SAME_ID_MAX);
    Ok(list(source, &filter)?.exchanges)
}

/// One exchange as a whole, by its number.
///
/// # Errors
///
/// As [`list`].
pub(crate) fn whole<'a>(source: impl Into<Source<'a>>, number: i64) -> Result<Option<Row>, String> {
    by_number(source.into(), number, Extent::Whole)
}

/// Makes the tables of an audit in an empty database, for a copy of some of its rows.
///
/// # Errors
///
/// What SQLite says.
pub(crate) fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    schema::create(connection)
}

/// The most exchanges of one request id that are told.
const SAME_ID_MAX: usize = 100;

fn by_number(source: Source<'_>, number: i64, extent: Extent) -> Result<Option<Row>, String> {
    // Above the number there is nothing to look for, so that only files of its time are opened.
    let mut filter = Filter::default().with_limit(1).with_before(number.checked_add(1));
    filter.began.start = began(number);
    let found = page(source, &filter, extent)?.exchanges.pop();
    Ok(found.filter(|row| row.id() == number))
}

/// Shows each file that may hold what is asked for, the newest first, with the first number after its period, or the
/// database; what is wrong with a closed file becomes a note.
///
/// The live file comes first: should it be closed meanwhile, it is found again among the closed ones. Where a period
/// begins tells nothing of a file: it may have been begun under another `rotate`, and has older rows then.
fn for_each_part(
    source: Source<'_>,
    filter: &Filter,
    mut show: impl FnMut(Part<'_>, i64) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let Source { place, stop } = source;
    let path = match place {
        Place::Files(path) => path,
        Place::Postgres(reader) => {
            return show(Part::Postgres(reader, stop), i64::MAX).map(|()| Vec::new());
        }
    };
    show(Part::File(File { path, stop }), i64::MAX)?;
    let mut notes = Vec::new();
    let numbers = filter.numbers();
    for file in files::closed(path)?.iter().filter(|file| file.period.end() > numbers.start) {
        if let Err(problem) = show(Part::File(File { path: &file.path, stop }), file.period.end()) {
            if stop.is_some_and(CancellationToken::is_cancelled) {
                return Err(problem);
            }
            notes.push(problem);
        }
    }
    Ok(notes)
}

fn count_rows(connection: &Connection, filter: &Filter) -> rusqlite::Result<i64> {
    let (conditions, values) = filter.sql();
    let sql = format!("SELECT count(*) FROM exchanges WHERE {conditions}");
    connection.query_row(&sql, params_from_iter(&values), |row| row.get(0))
}

fn select(
    connection: &Connection,
    filter: &Filter,
    extent: Extent,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let (conditions, mut values) = filter.sql();
    let columns = extent.sql();
    let sql = format!("SELECT {columns} FROM exchanges WHERE {conditions} ORDER BY id DESC LIMIT ?");
    values.push(rusqlite::types::Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(&values), |row| Row::read(row, extent))?;
    let mut rows: Vec<Row> = rows.collect::<rusqlite::Result<_>>()?;
    if extent == Extent::Whole {
        for row in &mut rows {
            row.read_attempts(connection)?;
        }
    }
    Ok(rows)
}

fn as_text<S: Serializer>(number: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(number),
        None => serializer.serialize_none(),
    }
}

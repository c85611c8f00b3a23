//! How a record becomes rows of PostgreSQL.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use crate::audit::cells::{self, Cell, Row};
use crate::audit::database::Failure;
use crate::audit::queue::{Entry, Item};

/// The longest text that is kept, in bytes: the server takes messages of less than 1 GiB.
const TEXT_BYTES_MAX: usize = 128 << 20;

/// How often numbers are changed in a row that other gateways' exchanges have.
const TRIES_MAX: usize = 16;

/// The most changed numbers that are known for labels that come later.
const MOVED_MAX: usize = 4096;

/// What a column takes.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Integer,
    Real,
    Text,
}

use Kind::{Flag, Integer, Real, Text};

const EXCHANGE: [Kind; cells::EXCHANGE_LEN] = [
    Integer, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text, Flag, Integer, Text,
    Text, Text, Text, Integer, Integer, Integer, Integer, Flag, Real, Real, Real, Integer, Integer, Flag,
    Flag, Text, Text, Text, Text, Text,
];
const ATTEMPT: [Kind; cells::ATTEMPT_LEN] = [Integer, Integer, Text, Text, Integer, Text, Text, Real, Real];

/// Where the bodies of an exchange stand, and whether they are cut.
const BODIES: [(usize, usize); 2] = [(34, 29), (35, 30)];

/// What is there under some numbers.
const STORED: &str = "SELECT id, request_id, duration_ms FROM exchanges WHERE id = ANY($1)";

/// Labels of the same name are replaced. Whatever else may have become of the column, this does not fail.
const LABELS: &str = "UPDATE exchanges SET labels = (witgate_object(exchanges.labels) || witgate_object(added.labels))::text \
                      FROM unnest($1::bigint[], $2::text[]) AS added (id, labels) WHERE exchanges.id = added.id";

/// What is asked of the server again and again.
pub(super) struct Statements {
    rows: Statement,
    stored: Statement,
    labels: Statement,
}

/// Under which numbers exchanges stand that had one which another gateway's exchange has.
#[derive(Default)]
pub(super) struct Moved(BTreeMap<i64, i64>);

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            rows: client.prepare(&rows_sql()).await?,
            stored: client.prepare(STORED).await?,
            labels: client.prepare(LABELS).await?,
        })
    }

    /// Writes all of these: rows that are not there yet, and then labels, which change nothing when they come twice.
    ///
    /// # Errors
    /// What the server says, as a failure.
    pub(super) async fn write(
        &self,
        client: &Client,
        entries: &[Entry],
        moved: &mut Moved,
    ) -> Result<(), Failure> {
        self.write_rows(client, entries, moved).await?;
        Ok(self.write_labels(client, entries, moved).await?)
    }

    async fn write_rows(&self, client: &Client, entries: &[Entry], moved: &mut Moved) -> Result<(), Failure> {
        let mut records: Vec<Row<'_>> = entries.iter().filter_map(|entry| entry.item.row()).collect();
        for _ in 0..TRIES_MAX {
            if records.is_empty() {
                return Ok(());
            }
            let values = values(&records, moved);
            let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(Values::as_sql).collect();
            let inserted: i64 = client.query_one(&self.rows, &parameters).await?.try_get(0)?;
            if usize::try_from(inserted) == Ok(records.len()) {
                return Ok(());
            }
            self.settle_conflicts(client, &mut records, moved).await?;
        }
        Err(Failure::Row(format!("{} exchanges have numbers that others have", records.len())))
    }

    /// Keeps the records that are not there: each gets another number if an exchange of another gateway has its own.
    /// Those that are there were written when it was not known whether they were.
    async fn settle_conflicts(
        &self,
        client: &Client,
        records: &mut Vec<Row<'_>>,
        moved: &mut Moved,
    ) -> Result<(), Error> {
        let numbers: Vec<i64> = records.iter().map(|record| moved.number(record.number())).collect();
        let mut stored: HashMap<i64, (String, f64)> = HashMap::with_capacity(numbers.len());
        for row in client.query(&self.stored, &[&numbers]).await? {
            stored.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
        }
        records.retain(|record| {
            let there = stored.get(&moved.number(record.number()));
            let is_there = there.is_some_and(|(id, ms)| (id.as_str(), *ms) == record.identity());
            if there.is_some() && !is_there {
                moved.change(record.number());
            }
            !is_there
        });
        Ok(())
    }

    async fn write_labels(&self, client: &Client, entries: &[Entry], moved: &Moved) -> Result<(), Error> {
        let mut added: BTreeMap<i64, Map<String, Value>> = BTreeMap::new();
        for entry in entries {
            if let Item::Labels { number, labels } = &entry.item {
                let pairs = labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
                added.entry(moved.number(*number)).or_default().extend(pairs);
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        let (numbers, labels): (Vec<i64>, Vec<String>) =
            added.into_iter().map(|(number, labels)| (number, Value::Object(labels).to_string())).unzip();
        client.execute(&self.labels, &[&numbers, &labels]).await?;
        Ok(())
    }
}

impl Moved {
    /// The number that an exchange stands under.
    fn number(&self, number: i64) -> i64 {
        self.0.get(&number).copied().unwrap_or(number)
    }

    /// Gives an exchange the next number.
    fn change(&mut self, number: i64) {
        *self.0.entry(number).or_insert(number) += 1;
        if self.0.len() > MOVED_MAX {
            self.0.pop_first();
        }
    }
}

/// One statement, so that an exchange is there with all its attempts or not at all.
///
/// Measured with 512 rows of two texts of 2 KiB, in CPU time of the server for a row: 76 µs this way, 64 by `COPY` into a
/// table beside and from there, 80 to 100 by `VALUES` of all rows, 130 to 170 row by row; the gateway spends 5 µs either
/// way. `COPY` wants four more round trips, which small batches feel, and `VALUES` has room for 65,535 parameters.
fn rows_sql() -> String {
    let exchange = arrays(&EXCHANGE, 1);
    let attempt = arrays(&ATTEMPT, 1 + EXCHANGE.len());
    format!(
        "WITH added AS (\
           INSERT INTO exchanges SELECT * FROM unnest({exchange}) ON CONFLICT (id) DO NOTHING RETURNING id\
         ), tried AS (\
           INSERT INTO attempts SELECT * FROM unnest({attempt}) AS given (exchange) \
           WHERE given.exchange IN (SELECT id FROM added)\
         ) SELECT count(*) FROM added"
    )
}

fn arrays(kinds: &[Kind], first: usize) -> String {
    let array = |(place, kind): (usize, &Kind)| format!("${}::{}[]", first + place, kind.name());
    kinds.iter().enumerate().map(array).collect::<Vec<_>>().join(", ")
}

/// The parameters of that statement: an array for each column.
fn values<'record>(records: &[Row<'record>], moved: &Moved) -> Vec<Values<'record>> {
    let mut exchanges: Vec<Values<'_>> =
        EXCHANGE.iter().map(|kind| Values::new(*kind, records.len())).collect();
    let mut attempts: Vec<Values<'_>> =
        ATTEMPT.iter().map(|kind| Values::new(*kind, records.len())).collect();
    for record in records {
        let number = moved.number(record.number());
        let mut cells = record.exchange();
        cells[0] = number.into();
        for (body, is_cut) in BODIES {
            if is_too_long(&cells[body]) {
                cells[is_cut] = true.into();
            }
        }
        push(&mut exchanges, cells);
        for mut cells in record.attempts() {
            cells[0] = number.into();
            push(&mut attempts, cells);
        }
    }
    exchanges.append(&mut attempts);
    exchanges
}

fn push<'record, const LEN: usize>(columns: &mut [Values<'record>], cells: [Cell<'record>; LEN]) {
    for (column, cell) in columns.iter_mut().zip(cells) {
        column.push(cell);
    }
}

/// The values of a column.
enum Values<'record> {
    Flags(Vec<Option<bool>>),
    Integers(Vec<Option<i64>>),
    Reals(Vec<Option<f64>>),
    Texts(Vec<Option<Cow<'record, str>>>),
}

impl<'record> Values<'record> {
    fn new(kind: Kind, len: usize) -> Self {
        match kind {
            Flag => Self::Flags(Vec::with_capacity(len)),
            Integer => Self::Integers(Vec::with_capacity(len)),
            Real => Self::Reals(Vec::with_capacity(len)),
            Text => Self::Texts(Vec::with_capacity(len)),
        }
    }

    fn push(&mut self, cell: Cell<'record>) {
        match (self, cell) {
            (Self::Flags(flags), Cell::Flag(flag)) => flags.push(Some(flag)),
            (Self::Integers(numbers), Cell::Integer(number)) => numbers.push(Some(number)),
            (Self::Reals(numbers), Cell::Real(number)) => numbers.push(Some(number)),
            (Self::Texts(texts), Cell::Text(text)) => texts.push(Some(clean(text))),
            (Self::Flags(flags), _) => flags.push(None),
            (Self::Integers(numbers), _) => numbers.push(None),
            (Self::Reals(numbers), _) => numbers.push(None),
            (Self::Texts(texts), _) => texts.push(None),
        }
    }

    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Flags(flags) => flags,
            Self::Integers(numbers) => numbers,
            Self::Reals(numbers) => numbers,
            Self::Texts(texts) => texts,
        }
    }
}

fn is_too_long(cell: &Cell<'_>) -> bool {
    matches!(cell, Cell::Text(text) if text.len() > TEXT_BYTES_MAX)
}

/// A text as the server takes it: U+FFFD stands for U+0000, and what is too long is cut.
fn clean(text: Cow<'_, str>) -> Cow<'_, str> {
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)]),
        Cow::Owned(mut text) => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            Cow::Owned(text)
        }
    };
    if memchr::memchr(0, text.as_bytes()).is_some() { text.replace('\0', "\u{fffd}").into() } else { text }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Flag => "boolean",
            Integer => "bigint",
            Real => "double precision",
            Text => "text",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(clean(text.into()), expected);
        assert_eq!(clean(text.to_owned().into()), expected);
    }

    #[test]
    fn a_text_is_one_that_the_server_takes() {
        check("", "");
        check("a\u{1}é", "a\u{1}é");
        check("\0a\0", "\u{fffd}a\u{fffd}");
        let long = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(clean(long.as_str().into()).len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn an_exchange_moves_on_from_number_to_number() {
        let mut moved = Moved::default();
        moved.change(7);
        moved.change(7);
        assert_eq!((moved.number(7), moved.number(8)), (9, 8));
        (0..2 * MOVED_MAX as i64).for_each(|number| moved.change(number + 10));
        assert_eq!(moved.0.len(), MOVED_MAX);
    }
}

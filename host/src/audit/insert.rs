//! How a record becomes rows of SQLite.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Statement, ToSql};

use crate::audit::cells::{self, Cell, Row};
use crate::audit::database::Failure;
use crate::audit::queue::{Entry, Item};

const EXCHANGE: &str = "INSERT INTO exchanges VALUES \
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, \
     ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36) ON CONFLICT (id) DO NOTHING";

const ATTEMPT: &str = "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// What is there under a number.
const STORED: &str = "SELECT request_id, duration_ms FROM exchanges WHERE id = ?1";

/// Labels of the same name are replaced. Whatever else may have become of the column, this does not fail.
const LABELS: &str = "UPDATE exchanges SET labels = \
    json_patch(CASE WHEN json_valid(labels) THEN labels ELSE '{}' END, ?2) WHERE id = ?1";

/// The statements of one transaction.
pub(super) struct Statements<'connection> {
    connection: &'connection Connection,
    exchange: CachedStatement<'connection>,
    attempt: CachedStatement<'connection>,
}

impl<'connection> Statements<'connection> {
    pub(super) fn prepare(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            exchange: connection.prepare_cached(EXCHANGE)?,
            attempt: connection.prepare_cached(ATTEMPT)?,
        })
    }

    /// Writes what an entry says, unless that was done before.
    pub(super) fn write(&mut self, entry: &Entry) -> Result<(), Failure> {
        match &entry.item {
            Item::Row(record) => self.write_row(Row::Fresh(record)),
            Item::Leftover(leftover) => self.write_row(Row::Leftover(leftover)),
            Item::Labels { number, labels } => {
                self.connection.execute(LABELS, (number, cells::object(labels)))?;
                Ok(())
            }
        }
    }

    fn write_row(&mut self, row: Row<'_>) -> Result<(), Failure> {
        if bind(&mut self.exchange, &row.exchange())? == 0 {
            return self.see_that_it_is_there(row);
        }
        for cells in row.attempts() {
            bind(&mut self.attempt, &cells)?;
        }
        Ok(())
    }

    fn see_that_it_is_there(&self, row: Row<'_>) -> Result<(), Failure> {
        let stored: (String, f64) =
            self.connection.query_row(STORED, [row.number()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if (stored.0.as_str(), stored.1) == row.identity() {
            return Ok(());
        }
        Err(Failure::Row("another exchange has its number".to_owned()))
    }
}

/// Says how many rows that made.
fn bind(statement: &mut Statement<'_>, cells: &[Cell<'_>]) -> rusqlite::Result<usize> {
    for (place, cell) in cells.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, cell)?;
    }
    statement.raw_execute()
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Flag(flag) => ToSqlOutput::Owned(Value::Integer(i64::from(*flag))),
            Self::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

//! How a record becomes rows of SQLite.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Statement, ToSql};

use crate::audit::cells::{self, Cell};
use crate::audit::database::Failure;
use crate::audit::queue::{Entry, Item};

const EXCHANGE: &str = "INSERT INTO exchanges VALUES \
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, \
     ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)";

const ATTEMPT: &str = "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

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

    /// Writes what an entry says.
    pub(super) fn write(&mut self, entry: &Entry) -> Result<(), Failure> {
        match &entry.item {
            Item::Row(record) => {
                bind(&mut self.exchange, &cells::exchange(record))?;
                for (place, tried) in record.attempts.iter().enumerate() {
                    let cells = cells::attempt(record.number, place as i64 + 1, tried);
                    bind(&mut self.attempt, &cells)?;
                }
            }
            Item::Labels { number, labels } => {
                self.connection.execute(LABELS, (number, cells::object(labels)))?;
            }
        }
        Ok(())
    }
}

fn bind(statement: &mut Statement<'_>, cells: &[Cell<'_>]) -> rusqlite::Result<()> {
    for (place, cell) in cells.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, cell)?;
    }
    statement.raw_execute()?;
    Ok(())
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

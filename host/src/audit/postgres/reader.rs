//! What was recorded in PostgreSQL, read again.

use std::collections::HashMap;
use std::ops::AsyncFnOnce;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rusqlite::types::Value;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};
use tokio_util::sync::CancellationToken;

use crate::audit::database::Failure;
use crate::audit::end::End;
use crate::audit::postgres::schema::{self, Owner, VERSION};
use crate::audit::postgres::session::Session;
use crate::audit::query::{Attempt, Extent, Filter, Row};
use crate::config;

/// What a session that only reads begins with.
const READ_ONLY: &str = "SET default_transaction_read_only = on";

/// A database, and the connection it was read over last.
pub(crate) struct Reader {
    place: config::Postgres,
    session: Mutex<Option<Session>>,
}

impl Reader {
    /// One that is not connected yet.
    pub(crate) fn new(place: &config::Postgres) -> Self {
        Self { place: place.clone(), session: Mutex::default() }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &config::Postgres {
        &self.place
    }

    /// Finds exchanges, the newest first.
    ///
    /// # Errors
    /// A message for the operator: the database cannot be read or is no audit, or `stop` was cancelled.
    pub(in crate::audit) fn select(
        &self,
        stop: Option<&CancellationToken>,
        filter: &Filter,
        extent: Extent,
        limit: usize,
    ) -> Result<Vec<Row>, String> {
        let (conditions, mut values) = filter.sql_of_postgres();
        let columns = extent.sql();
        let place = values.len() + 1;
        let sql =
            format!("SELECT {columns} FROM exchanges WHERE {conditions} ORDER BY id DESC LIMIT ${place}");
        values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let rows = self.read(stop, async |client| {
            let mut rows: Vec<Row> = query(client, &sql, &values)
                .await?
                .iter()
                .map(|row| Ok(Row::of(cells(row, 0)?, extent)))
                .collect::<Result<_, Error>>()?;
            if extent == Extent::Whole {
                read_attempts(client, &mut rows).await?;
            }
            Ok(rows)
        })?;
        Ok(rows.unwrap_or_default())
    }

    /// Counts exchanges.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub(in crate::audit) fn count(
        &self,
        stop: Option<&CancellationToken>,
        filter: &Filter,
    ) -> Result<u64, String> {
        let (conditions, values) = filter.sql_of_postgres();
        let sql = format!("SELECT count(*) FROM exchanges WHERE {conditions}");
        let count = self.read(stop, async |client| {
            let rows = query(client, &sql, &values).await?;
            rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))
        })?;
        Ok(count.unwrap_or(0).unsigned_abs())
    }

    /// Asks the database; none if it has no tables yet.
    fn read<T: Send>(
        &self,
        stop: Option<&CancellationToken>,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error> + Send,
    ) -> Result<Option<T>, String> {
        // Whoever asks may be on a thread of a runtime, which must not drive a connection.
        let found = thread::scope(|scope| scope.spawn(|| self.read_here(stop, work)).join());
        let found = found.unwrap_or_else(|_| Err(Failure::Blocked("the search panicked".to_owned())));
        found.map_err(|failure| format!("`{}` cannot be read: {failure}", self.place))
    }

    fn read_here<T>(
        &self,
        stop: Option<&CancellationToken>,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<Option<T>, Failure> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut session = match kept.take() {
            Some(session) if !session.is_closed() => session,
            _ => Session::open(&self.place, &End::default())?,
        };
        let found = session.run_until(stop, async |client| {
            client.batch_execute(READ_ONLY).await?;
            match schema::owner(client).await? {
                Owner::Nobody => Ok(None),
                Owner::Version(version) if version <= VERSION => Ok(Some(work(client).await?)),
                other => Err(Failure::Foreign(other.refusal())),
            }
        })?;
        match found {
            Some(found) => {
                *kept = Some(session);
                Ok(found)
            }
            None => Err(Failure::Blocked("the search was stopped".to_owned())),
        }
    }
}

async fn query(client: &Client, sql: &str, values: &[Value]) -> Result<Vec<tokio_postgres::Row>, Error> {
    let parameters: Vec<&(dyn ToSql + Sync)> = values
        .iter()
        .map(|value| -> &(dyn ToSql + Sync) {
            match value {
                Value::Integer(number) => number,
                Value::Real(number) => number,
                Value::Text(text) => text,
                Value::Blob(bytes) => bytes,
                Value::Null => &None::<i64>,
            }
        })
        .collect();
    client.query(sql, &parameters).await
}

async fn read_attempts(client: &Client, rows: &mut [Row]) -> Result<(), Error> {
    let ids: Vec<i64> = rows.iter().map(Row::id).collect();
    let columns = Attempt::sql();
    let sql = format!(
        "SELECT exchange, {columns} FROM attempts WHERE exchange = ANY($1) ORDER BY exchange, number"
    );
    let mut attempts: HashMap<i64, Vec<Attempt>> = HashMap::new();
    for row in client.query(&sql, &[&ids]).await? {
        attempts.entry(row.try_get(0)?).or_default().push(Attempt::of(cells(&row, 1)?));
    }
    for row in rows {
        let tried = attempts.remove(&row.id()).unwrap_or_default();
        row.set_attempts(tried);
    }
    Ok(())
}

/// The values of a row from a column on, as a file has them.
fn cells(row: &tokio_postgres::Row, from: usize) -> Result<Vec<Value>, Error> {
    (from..row.len()).map(|at| cell(row, at)).collect()
}

fn cell(row: &tokio_postgres::Row, at: usize) -> Result<Value, Error> {
    let kind = row.columns()[at].type_();
    let value = if *kind == Type::BOOL {
        row.try_get::<_, Option<bool>>(at)?.map(|flag| Value::Integer(i64::from(flag)))
    } else if *kind == Type::INT8 {
        row.try_get::<_, Option<i64>>(at)?.map(Value::Integer)
    } else if *kind == Type::FLOAT8 {
        row.try_get::<_, Option<f64>>(at)?.map(Value::Real)
    } else {
        row.try_get::<_, Option<String>>(at)?.map(Value::Text)
    };
    Ok(value.unwrap_or(Value::Null))
}

//! How the audit in PostgreSQL stays within its bound, a part of it at a time.

use std::time::SystemTime;

use tokio_postgres::{Client, Error};

use crate::audit::period::first_number;

/// Rows that are deleted at once.
const ROWS_MAX: i64 = 1000;

/// Held by the one gateway that deletes. Source: the bytes `witgate2`.
const LOCK: i64 = 0x7769_7467_6174_6532;

const DELETE: &str = "
WITH old AS (
  SELECT id FROM exchanges WHERE id < $1 ORDER BY id LIMIT $2
), tried AS (
  DELETE FROM attempts USING old WHERE attempts.exchange = old.id
)
DELETE FROM exchanges USING old WHERE exchanges.id = old.id";

/// Deletes the oldest rows of exchanges that began before a time, up to a bound; says whether there are more.
///
/// # Errors
/// What the server says.
pub(super) async fn delete(client: &mut Client, cutoff: SystemTime) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let row = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?;
    if !row.try_get::<_, bool>(0)? {
        // Another gateway is at it.
        return Ok(false);
    }
    let deleted = transaction.execute(DELETE, &[&first_number(cutoff), &ROWS_MAX]).await?;
    transaction.commit().await?;
    Ok(deleted >= ROWS_MAX.unsigned_abs())
}

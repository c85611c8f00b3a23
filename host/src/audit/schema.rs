//! The tables of an audit file: a stand-in until the store's own is merged.

/// The version of the tables.
pub(super) const VERSION: i64 = 1;

#[cfg(test)]
pub(super) fn create(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)
}

#[cfg(test)]
const TABLES: &str = "
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE exchanges (
  id INTEGER PRIMARY KEY,
  request_id TEXT NOT NULL,
  started TEXT NOT NULL,
  caller TEXT,
  key TEXT,
  tenant TEXT,
  ip TEXT,
  method TEXT,
  path TEXT,
  endpoint TEXT,
  model TEXT,
  upstream_model TEXT,
  upstream TEXT,
  stream INTEGER NOT NULL,
  status INTEGER,
  outcome TEXT NOT NULL,
  error_kind TEXT,
  error TEXT,
  finish TEXT,
  input_tokens INTEGER,
  output_tokens INTEGER,
  cached_tokens INTEGER,
  reasoning_tokens INTEGER,
  estimated INTEGER NOT NULL,
  ttft_ms REAL,
  duration_ms REAL NOT NULL,
  gateway_ms REAL NOT NULL,
  request_bytes INTEGER NOT NULL,
  response_bytes INTEGER NOT NULL,
  request_cut INTEGER NOT NULL,
  response_cut INTEGER NOT NULL,
  labels TEXT,
  plugins TEXT,
  headers TEXT,
  request TEXT,
  response TEXT
);
CREATE INDEX exchanges_started ON exchanges (started);
CREATE INDEX exchanges_request_id ON exchanges (request_id);

CREATE TABLE attempts (
  exchange INTEGER NOT NULL,
  number INTEGER NOT NULL,
  upstream TEXT NOT NULL,
  model TEXT NOT NULL,
  status INTEGER,
  error_kind TEXT,
  error TEXT,
  began_ms REAL NOT NULL,
  took_ms REAL NOT NULL,
  PRIMARY KEY (exchange, number)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '1');
";

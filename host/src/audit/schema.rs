//! The tables of an audit file, and whether a file has them.

use rusqlite::{Connection, OptionalExtension};

use crate::audit::database::Failure;

/// The version of the tables. A file of a higher one is not touched.
pub(super) const VERSION: i64 = 1;

/// Pages of this size take few system calls for rows of some KiB up to long prompts, without making the index of ids costly.
/// Measured: a row of 64 KiB costs a fifth less than with 8 KiB, one of 2 KiB the same.
pub(super) const PAGE_BYTES: u32 = 16384;

/// Bodies stand last, so that a scan of the other columns need not read them. There is no index on `started`: the rows of a
/// time are a range of `id`.
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
";

/// The first gateway's table, for who reads that. What it did not record (sound, lists of models) is left out; what is
/// asked of a request's JSON is found when it is read, so that writing stays cheap.
///
/// Source: GPT_API, table `records`: the columns, the words of `Type`, and `Model` as the name finally used.
const VIEW: &str = "
CREATE VIEW records AS SELECT
  id,
  started AS Time,
  ip AS IP,
  coalesce(upstream_model, model) AS Model,
  endpoint AS Type,
  coalesce(output_tokens, 0) AS CompletionTokens,
  coalesce(input_tokens, 0) AS PromptTokens,
  coalesce(input_tokens, 0) + coalesce(output_tokens, 0) AS TotalTokens,
  CASE WHEN json_valid(request) THEN json_type(request, '$.tools') IS NOT NULL ELSE 0 END AS Tool,
  EXISTS (
    SELECT 1
    FROM json_tree(CASE WHEN json_valid(request) THEN request ELSE '{}' END, '$.messages') AS part
    WHERE part.key = 'type' AND part.atom = 'image_url'
  ) AS Multimodal,
  headers AS Headers,
  request AS Request,
  response AS Response
FROM exchanges
WHERE endpoint IN (
  'chat.completions', 'text_completion', 'embeddings', 'rerank', 'score', 'classify', 'responses', 'anthropic.messages'
);
";

/// Whose a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody's: it has no tables.
    Nobody,
    /// An audit of this version.
    Ours,
}

/// Finds out whose a file is.
///
/// # Errors
/// `Foreign` if it is somebody else's or of a newer version; what SQLite says if it cannot be read.
pub(super) fn owner(connection: &Connection) -> Result<Owner, Failure> {
    let has_table = |name: &str| -> rusqlite::Result<bool> {
        connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
    };
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(Owner::Nobody);
    }
    if !(has_table("meta")? && has_table("exchanges")?) {
        let whose = if has_table("records")? {
            "the database of an earlier gateway (it has a table `records`)"
        } else {
            "the database of another program"
        };
        return Err(Failure::Foreign(format!("it is {whose}; name another file in `audit.path`")));
    }
    let version: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0))
        .optional()?;
    match version.and_then(|version| version.parse::<i64>().ok()) {
        Some(VERSION) => Ok(Owner::Ours),
        Some(newer) if newer > VERSION => Err(Failure::Foreign(format!(
            "it was written by a newer witgate (schema {newer}, this one knows {VERSION}); rename it, or name another \
             file in `audit.path`"
        ))),
        _ => Err(Failure::Foreign(
            "it does not say which schema it has; rename it, or name another file in `audit.path`".to_owned(),
        )),
    }
}

/// Makes the tables in a file that has none.
///
/// # Errors
/// What SQLite says.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    // Both can be said only before the first page is written.
    connection
        .execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL;"))?;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {VIEW} INSERT INTO meta VALUES ('schema', '{VERSION}'); COMMIT;"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    #[track_caller]
    fn check_refused(sql: &str, expected: &str) {
        match owner(&memory(sql)) {
            Err(Failure::Foreign(reason)) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn somebody_elses_file_is_refused() {
        check_refused("CREATE TABLE records (id INTEGER PRIMARY KEY)", "an earlier gateway");
        check_refused("CREATE TABLE notes (id INTEGER PRIMARY KEY)", "another program");
        check_refused("CREATE TABLE meta (key, value); CREATE TABLE exchanges (id)", "does not say");
        check_refused(
            "CREATE TABLE meta (key, value); CREATE TABLE exchanges (id); INSERT INTO meta VALUES ('schema', '99')",
            "schema 99, this one knows 1",
        );
    }

    #[test]
    fn an_empty_file_gets_the_tables_once() {
        let connection = memory("");
        assert_eq!(owner(&connection).unwrap(), Owner::Nobody);
        create(&connection).unwrap();
        assert_eq!(owner(&connection).unwrap(), Owner::Ours);
    }

    #[test]
    fn the_view_has_the_columns_of_the_first_gateway() {
        // parity: 140
        let connection = memory("");
        create(&connection).unwrap();
        let mut statement = connection.prepare("PRAGMA table_info(records)").unwrap();
        let names: Vec<String> =
            statement.query_map([], |row| row.get("name")).unwrap().map(Result::unwrap).collect();
        let expected = "id Time IP Model Type CompletionTokens PromptTokens TotalTokens Tool Multimodal Headers \
                        Request Response";
        assert_eq!(names.join(" "), expected);
    }

    #[track_caller]
    fn check_request(request: Option<&str>, tool: bool, multimodal: bool) {
        let connection = memory("");
        create(&connection).unwrap();
        connection
            .execute(
                "INSERT INTO exchanges (id, request_id, started, endpoint, stream, outcome, estimated, duration_ms, \
                 gateway_ms, request_bytes, response_bytes, request_cut, response_cut, request) \
                 VALUES (1, 'a', '', 'chat.completions', 0, 'complete', 0, 0, 0, 0, 0, 0, 0, ?1)",
                [request],
            )
            .unwrap();
        let found = connection
            .query_row("SELECT Tool, Multimodal FROM records", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(found, (tool, multimodal), "{request:?}");
    }

    #[test]
    fn the_view_tells_tools_and_pictures() {
        // parity: 140
        check_request(None, false, false);
        check_request(Some("{"), false, false);
        check_request(Some("[1]"), false, false);
        check_request(Some(r#"{"messages":[{"role":"user","content":"image_url"}]}"#), false, false);
        check_request(Some(r#"{"tools":[],"messages":"x"}"#), true, false);
        check_request(
            Some(
                r#"{"messages":[{"content":[{"type":"text"},{"type":"image_url","image_url":{"url":"a"}}]}]}"#,
            ),
            false,
            true,
        );
    }
}

//! The tables of an audit in PostgreSQL, and whether a database has them.

use tokio_postgres::{Client, Error, GenericClient};

use crate::audit::database::Failure;

/// The version of the tables. A database of a higher one is not touched.
pub(super) const VERSION: usize = STEPS.len();

/// Held while the tables are made, since several gateways may start at once. Source: the bytes `witgate1`.
const LOCK: i64 = 0x7769_7467_6174_6531;

/// What makes each version out of the one before; a step that has been released never changes.
const STEPS: [&str; 1] = [FIRST];

/// What a database says of itself, and the tables of a file with the types that PostgreSQL has for them. Numbers have 64
/// bits throughout, so that every parameter of a search is one of those. There is no index on `started`: the rows of a
/// time are a range of `id`.
///
/// `witgate_object` gives the object that a text is, or an empty one, whatever stands there; PostgreSQL's documents cannot
/// hold U+0000. The view is the first gateway's table, as in a file: its names have capitals, and so want quotes.
const FIRST: &str = r#"
CREATE TABLE witgate_meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE exchanges (
  id BIGINT PRIMARY KEY,
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
  stream BOOLEAN NOT NULL,
  status BIGINT,
  outcome TEXT NOT NULL,
  error_kind TEXT,
  error TEXT,
  finish TEXT,
  input_tokens BIGINT,
  output_tokens BIGINT,
  cached_tokens BIGINT,
  reasoning_tokens BIGINT,
  estimated BOOLEAN NOT NULL,
  ttft_ms DOUBLE PRECISION,
  duration_ms DOUBLE PRECISION NOT NULL,
  gateway_ms DOUBLE PRECISION NOT NULL,
  request_bytes BIGINT NOT NULL,
  response_bytes BIGINT NOT NULL,
  request_cut BOOLEAN NOT NULL,
  response_cut BOOLEAN NOT NULL,
  labels TEXT,
  plugins TEXT,
  headers TEXT,
  request TEXT,
  response TEXT
);
CREATE INDEX exchanges_request_id ON exchanges (request_id);

CREATE TABLE attempts (
  exchange BIGINT NOT NULL,
  number BIGINT NOT NULL,
  upstream TEXT NOT NULL,
  model TEXT NOT NULL,
  status BIGINT,
  error_kind TEXT,
  error TEXT,
  began_ms DOUBLE PRECISION NOT NULL,
  took_ms DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (exchange, number)
);

CREATE FUNCTION witgate_object(value TEXT) RETURNS JSONB LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  document JSONB;
BEGIN
  document := replace(value, '\u0000', '\ufffd')::JSONB;
  IF jsonb_typeof(document) = 'object' THEN
    RETURN document;
  END IF;
  RETURN '{}';
EXCEPTION WHEN others THEN
  RETURN '{}';
END
$$;

CREATE VIEW records AS SELECT
  id,
  started AS "Time",
  ip AS "IP",
  coalesce(upstream_model, model) AS "Model",
  endpoint AS "Type",
  coalesce(output_tokens, 0) AS "CompletionTokens",
  coalesce(input_tokens, 0) AS "PromptTokens",
  coalesce(input_tokens, 0) + coalesce(output_tokens, 0) AS "TotalTokens",
  jsonb_exists(witgate_object(request), 'tools') AS "Tool",
  jsonb_path_exists(witgate_object(request), '$.messages.**.type ? (@ == "image_url")') AS "Multimodal",
  headers AS "Headers",
  request AS "Request",
  response AS "Response"
FROM exchanges
WHERE endpoint IN (
  'chat.completions', 'text_completion', 'embeddings', 'rerank', 'score', 'classify', 'responses', 'anthropic.messages'
);
"#;

/// The encodings that take every row: the second one takes any bytes.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// What a database is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody's: it has none of the tables.
    Nobody,
    /// An audit of this version.
    Version(usize),
    /// An audit that does not say of which version.
    Unknown,
    /// Somebody else's: it has a table of this name.
    Other(&'static str),
}

/// Finds out whose a database is.
///
/// # Errors
/// What the server says.
pub(super) async fn owner(client: &impl GenericClient) -> Result<Owner, Error> {
    if !has(client, "witgate_meta").await? {
        for name in ["exchanges", "attempts", "records"] {
            if has(client, name).await? {
                return Ok(Owner::Other(name));
            }
        }
        return Ok(Owner::Nobody);
    }
    let row = client.query_opt("SELECT value FROM witgate_meta WHERE key = 'schema'", &[]).await?;
    let version = row.and_then(|row| row.get::<_, &str>(0).parse().ok());
    Ok(version.map_or(Owner::Unknown, Owner::Version))
}

async fn has(client: &impl GenericClient, name: &str) -> Result<bool, Error> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?;
    row.try_get(0)
}

/// Makes the tables in a database that has none, and brings older ones up to date.
///
/// # Errors
/// `Foreign` if the database cannot be used, else what the server says.
pub(super) async fn prepare(client: &mut Client) -> Result<(), Failure> {
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.try_get(0)?;
    if !ENCODINGS.contains(&encoding.as_str()) {
        let reason = format!("the database's encoding is {encoding}; make one with `ENCODING 'UTF8'`");
        return Err(Failure::Foreign(reason));
    }
    let transaction = client.transaction().await?;
    transaction.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let version = match owner(&transaction).await? {
        Owner::Nobody => 0,
        Owner::Version(VERSION) => return Ok(()),
        Owner::Version(older) if older < VERSION => older,
        other => return Err(Failure::Foreign(other.refusal())),
    };
    for step in &STEPS[version..] {
        transaction.batch_execute(step).await?;
    }
    let note = "INSERT INTO witgate_meta VALUES ('schema', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.execute(note, &[&VERSION.to_string()]).await?;
    transaction.commit().await?;
    Ok(())
}

impl Owner {
    /// Why a database is not touched.
    pub(super) fn refusal(&self) -> String {
        match self {
            Self::Other(table) => format!(
                "the database has a table `{table}` of another program; name another database in `audit.postgres`"
            ),
            Self::Version(newer) => format!(
                "the tables were made by a newer witgate (schema {newer}, this one knows {VERSION}); name another \
                 database in `audit.postgres`"
            ),
            Self::Unknown | Self::Nobody => {
                "the tables do not say which schema they have; name another database in `audit.postgres`"
                    .to_owned()
            }
        }
    }
}

//! What an operator asks for: named values in, fixed pieces of SQL and their parameters out.
//!
//! No value ever becomes part of the text of a statement.

use std::borrow::Cow;
use std::ops::Range;
use std::time::SystemTime;

use rusqlite::types::Value;

use crate::moment;

/// The rows of a page unless it is said.
const LIMIT: usize = 50;
/// The most rows of a page.
pub(crate) const LIMIT_MAX: usize = 10_000;
/// The longest value, in bytes. SQLite's own bound of a pattern is 50,000.
const VALUE_BYTES_MAX: usize = 1_000;
/// The most alternatives of `status`, and the most labels.
const COUNT_MAX: usize = 16;
/// How many numbers of exchanges there are in a microsecond.
pub(super) const NUMBERS: i64 = 1_024;

/// Which exchanges are asked for, and how many.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter {
    /// When they began, in microseconds since 1970.
    pub(super) began: Range<i64>,
    /// Only those with a smaller number.
    before: Option<i64>,
    /// The most that are given; 1 to [`LIMIT_MAX`].
    pub(super) limit: usize,
    /// All of these hold.
    conditions: Vec<Condition>,
    /// Whether a condition has to read bodies.
    reads_bodies: bool,
}

/// One of these holds.
#[derive(Clone, Debug, PartialEq)]
struct Condition(Vec<Term>);

/// A piece of SQL and its parameters.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// As SQLite has it; [`Dialect::spelled`] has it as others do.
    sql: &'static str,
    values: Vec<Parameter>,
}

/// A value of an operator.
#[derive(Clone, Debug, PartialEq)]
enum Parameter {
    Integer(i64),
    Text(String),
    /// A name with `*` for any text.
    Name(String),
}

/// The databases that pieces are put together for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            began: i64::MIN..i64::MAX,
            before: None,
            limit: LIMIT,
            conditions: Vec::new(),
            reads_bodies: false,
        }
    }
}

impl Filter {
    /// The names that a filter knows.
    pub(crate) const NAMES: [&str; 16] = [
        "since", "until", "model", "key", "caller", "tenant", "upstream", "endpoint", "status", "outcome",
        "text", "label", "id", "limit", "before", "ip",
    ];

    /// Reads named values as a query string or a command line has them; an empty value asks for nothing.
    ///
    /// - `since`, `until`: RFC 3339, a date (`until` includes it), or how long ago: `15m`, `2h`, `7d`;
    /// - `model`, `key`, `caller`, `tenant`, `upstream`, `endpoint`, `ip`: the name, with `*` for any text; `model` is
    ///   the client's or the upstream's name, `upstream` one that was tried;
    /// - `status`: `404`, `5xx`, `>=400`, several with commas;
    /// - `outcome`: `complete`, `cancelled`, `refused`, `rejected`, `failed`;
    /// - `text`: what is in the request or the answer, in either case;
    /// - `label`: `name` or `name:value`, may be repeated: all have to be there;
    /// - `id`: the number or the request's id;
    /// - `limit`: 1 to 10,000, 50 unless said; `before`: the `next` of the page before.
    ///
    /// # Errors
    ///
    /// A message that names the value.
    pub(crate) fn parse<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, String>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        Self::parse_at(pairs, SystemTime::now())
    }

    /// The same at a given time, which `15m` counts from.
    ///
    /// # Errors
    ///
    /// A message that names the value.
    pub(super) fn parse_at<N, V>(
        pairs: impl IntoIterator<Item = (N, V)>,
        now: SystemTime,
    ) -> Result<Self, String>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let now = moment::of(now);
        let mut filter = Self::default();
        let (mut seen, mut labels) = (Vec::new(), 0);
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            let known = Self::NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
                format!("there is no filter `{}`; known are {}", name.escape_debug(), Self::NAMES.join(", "))
            })?;
            if known == "label" {
                labels += 1;
            } else if seen.contains(&known) {
                return Err(format!("`{known}` is given twice"));
            }
            seen.push(known);
            if labels > COUNT_MAX {
                return Err(format!("more than {COUNT_MAX} values of `label`"));
            }
            check_value(known, value)?;
            if !value.is_empty() {
                filter.add(known, value, now)?;
            }
        }
        if filter.began.start > filter.began.end {
            return Err("`since` is after `until`".to_owned());
        }
        Ok(filter)
    }

    /// The same with another number of rows; at least one, at most [`LIMIT_MAX`].
    pub(crate) fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, LIMIT_MAX);
        self
    }

    /// The most rows that are asked for.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The same from that number downwards.
    pub(crate) fn with_before(mut self, before: Option<i64>) -> Self {
        self.before = before;
        self
    }

    /// The same, but only what has ended since, and what began at most so long before that.
    ///
    /// Rows are found by when they began; what may have taken longer is not looked for.
    pub(crate) fn ended_since(mut self, ended: SystemTime, duration_max: std::time::Duration) -> Self {
        let ended = moment::of(ended);
        let began = ended.saturating_sub(i64::try_from(duration_max.as_micros()).unwrap_or(i64::MAX));
        self.began.start = self.began.start.max(began);
        // PostgreSQL would have the parameter be what stands on the other side.
        self.require("id / 1024 + duration_ms * 1000.0 >= CAST(? AS BIGINT)", Parameter::Integer(ended));
        self
    }

    /// Whether a condition reads bodies, which takes time.
    pub(crate) fn reads_bodies(&self) -> bool {
        self.reads_bodies
    }

    /// The numbers that can match, the first included, the last not.
    pub(super) fn numbers(&self) -> Range<i64> {
        let start = self.began.start.saturating_mul(NUMBERS);
        let end = self.began.end.saturating_mul(NUMBERS);
        start..self.before.map_or(end, |before| before.min(end))
    }

    /// The conditions as the text behind `WHERE` of SQLite, and what its parameters are, in order.
    pub(super) fn sql(&self) -> (String, Vec<Value>) {
        self.sql_of(Dialect::Sqlite)
    }

    /// The same for PostgreSQL, where parameters have numbers.
    pub(in crate::audit) fn sql_of_postgres(&self) -> (String, Vec<Value>) {
        let (sql, values) = self.sql_of(Dialect::Postgres);
        let mut numbered = String::with_capacity(sql.len() + 2 * values.len());
        for (place, piece) in sql.split('?').enumerate() {
            if place > 0 {
                numbered.push_str(&format!("${place}"));
            }
            numbered.push_str(piece);
        }
        (numbered, values)
    }

    fn sql_of(&self, dialect: Dialect) -> (String, Vec<Value>) {
        let numbers = self.numbers();
        let mut sql = "id >= ? AND id < ?".to_owned();
        let mut values = vec![Value::Integer(numbers.start), Value::Integer(numbers.end)];
        for Condition(terms) in &self.conditions {
            let pieces: Vec<Cow<'_, str>> = terms.iter().map(|term| dialect.spelled(term.sql)).collect();
            sql.push_str(" AND (");
            sql.push_str(&pieces.join(" OR "));
            sql.push(')');
            values.extend(terms.iter().flat_map(|term| &term.values).map(|value| dialect.value(value)));
        }
        (sql, values)
    }

    fn add(&mut self, name: &'static str, value: &str, now: i64) -> Result<(), String> {
        match name {
            "since" => self.began.start = parse_moment(name, value, now)?.start,
            "until" => self.began.end = parse_moment(name, value, now)?.end,
            "model" => self.name(
                value,
                ["model = ?", "model GLOB ?"],
                ["upstream_model = ?", "upstream_model GLOB ?"],
            ),
            "upstream" => self.name(value, ["upstream = ?", "upstream GLOB ?"], [TRIED, TRIED_LIKE]),
            "key" => self.name(value, ["key = ?", "key GLOB ?"], NEVER),
            "caller" => self.name(value, ["caller = ?", "caller GLOB ?"], NEVER),
            "tenant" => self.name(value, ["tenant = ?", "tenant GLOB ?"], NEVER),
            "endpoint" => self.name(value, ["endpoint = ?", "endpoint GLOB ?"], NEVER),
            "ip" => self.name(value, ["ip = ?", "ip GLOB ?"], NEVER),
            "status" => self.conditions.push(statuses(value)?),
            "outcome" if OUTCOMES.contains(&value) => self.require("outcome = ?", text(value)),
            "outcome" => return Err(wrong(name, value, &format!("one of {}", OUTCOMES.join(", ")))),
            "text" => {
                self.reads_bodies = true;
                self.conditions.push(contains(value));
            }
            "label" => self.require(LABEL, text(value)),
            "id" => self.identify(value),
            "limit" => self.limit = parse_limit(value)?,
            "before" => self.before = Some(parse_before(value)?),
            _ => unreachable!("every name of NAMES has its arm"),
        }
        Ok(())
    }

    fn require(&mut self, sql: &'static str, value: Parameter) {
        self.conditions.push(Condition(vec![Term { sql, values: vec![value] }]));
    }

    /// Requires a name in one of two places; each has a piece for the name itself and one for a pattern.
    fn name(&mut self, value: &str, first: [&'static str; 2], second: [&'static str; 2]) {
        let (at, value) =
            if value.contains('*') { (1, Parameter::Name(value.to_owned())) } else { (0, text(value)) };
        let pieces = [first[at], second[at]].into_iter().filter(|sql| !sql.is_empty());
        self.conditions
            .push(Condition(pieces.map(|sql| Term { sql, values: vec![value.clone()] }).collect()));
    }

    fn identify(&mut self, id: &str) {
        let mut terms = vec![Term { sql: "request_id = ?", values: vec![text(id)] }];
        if let Ok(number) = id.parse() {
            terms.push(Term { sql: "id = ?", values: vec![Parameter::Integer(number)] });
        }
        self.conditions.push(Condition(terms));
    }
}

/// The words of `outcome`.
const OUTCOMES: [&str; 5] = ["complete", "cancelled", "refused", "rejected", "failed"];
/// A second place that there is not.
const NEVER: [&str; 2] = ["", ""];
const TRIED: &str =
    "EXISTS (SELECT 1 FROM attempts WHERE attempts.exchange = exchanges.id AND attempts.upstream = ?)";
const TRIED_LIKE: &str =
    "EXISTS (SELECT 1 FROM attempts WHERE attempts.exchange = exchanges.id AND attempts.upstream GLOB ?)";
// Names and values may both hold a colon: what is asked for is a name, or any name with any value that reads the same.
const LABEL: &str = "EXISTS (SELECT 1 FROM json_each(iif(json_valid(labels), labels, '{}')) AS label \
                     WHERE ? IN (label.key, label.key || ':' || label.value))";

/// The same in PostgreSQL.
const POSTGRES_LABEL: &str = "EXISTS (SELECT 1 FROM jsonb_each_text(witgate_object(labels)) AS label (key, value) \
                              WHERE ? IN (label.key, label.key || ':' || label.value))";

impl Dialect {
    /// A piece as the database has it. In PostgreSQL names are compared by `LIKE`, since there is no `GLOB`, and texts by
    /// `ILIKE`, since `LIKE` tells capitals there.
    fn spelled(self, sql: &'static str) -> Cow<'static, str> {
        match self {
            Self::Sqlite => sql.into(),
            Self::Postgres if sql == LABEL => POSTGRES_LABEL.into(),
            Self::Postgres => sql.replace(" LIKE ", " ILIKE ").replace(" GLOB ", " LIKE ").into(),
        }
    }

    fn value(self, parameter: &Parameter) -> Value {
        match (self, parameter) {
            (_, Parameter::Integer(number)) => Value::Integer(*number),
            (_, Parameter::Text(text)) => Value::Text(text.clone()),
            (Self::Sqlite, Parameter::Name(name)) => Value::Text(glob(name)),
            (Self::Postgres, Parameter::Name(name)) => Value::Text(like(name).replace('*', "%")),
        }
    }
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("`{name}` is longer than {VALUE_BYTES_MAX} bytes"));
    }
    // SQLite's patterns end there, so that something else would be found.
    if value.contains('\0') {
        return Err(format!("`{name}` holds the character U+0000"));
    }
    Ok(())
}

fn wrong(name: &str, value: &str, hint: &str) -> String {
    format!("`{name}` is `{}`: give {hint}", value.escape_debug())
}

fn parse_moment(name: &str, value: &str, now: i64) -> Result<Range<i64>, String> {
    moment::parse(value, now).ok_or_else(|| {
        wrong(name, value, "a time like `2026-11-21T16:16:00Z`, a date, or `15m`, `2h`, `7d` ago")
    })
}

fn parse_limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| wrong("limit", value, &format!("a number from 1 to {LIMIT_MAX}")))
}

fn parse_before(value: &str) -> Result<i64, String> {
    let before = value.parse().ok().filter(|before| *before > 0);
    before.ok_or_else(|| wrong("before", value, "the `next` of the page before"))
}

fn text(value: &str) -> Parameter {
    Parameter::Text(value.to_owned())
}

/// Alternatives of statuses, each a range.
fn statuses(value: &str) -> Result<Condition, String> {
    let parts: Vec<&str> = value.split(',').map(str::trim).collect();
    if parts.len() > COUNT_MAX {
        return Err(format!("more than {COUNT_MAX} values of `status`"));
    }
    let term = |part: &str| {
        let (from, to) = status(part).ok_or_else(|| {
            wrong("status", value, "a status like `404`, `5xx` or `>=400`, several with commas")
        })?;
        Ok(Term {
            sql: "status BETWEEN ? AND ?",
            values: vec![Parameter::Integer(from), Parameter::Integer(to)],
        })
    };
    Ok(Condition(parts.into_iter().map(term).collect::<Result<_, String>>()?))
}

/// The first and the last status that are meant.
fn status(text: &str) -> Option<(i64, i64)> {
    let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=999).contains(status));
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: i64 = class.parse().ok().filter(|class| (1..=9).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    for (sign, range) in SIGNS {
        if let Some(rest) = text.strip_prefix(sign) {
            return number(rest).map(range);
        }
    }
    number(text).map(|status| (status, status))
}

type RangeOf = fn(i64) -> (i64, i64);
/// Longer signs first.
const SIGNS: [(&str, RangeOf); 4] = [
    (">=", |status| (status, 999)),
    ("<=", |status| (100, status)),
    (">", |status| (status + 1, 999)),
    ("<", |status| (100, status - 1)),
];

/// A text in a body, which is JSON: as it is, and as the two ways of writing JSON have it.
fn contains(value: &str) -> Condition {
    let quoted = serde_json::Value::from(value).to_string();
    let inner = &quoted[1..quoted.len() - 1];
    let mut patterns: Vec<String> = Vec::new();
    for text in [value, inner, &ascii(inner)] {
        let pattern = format!("%{}%", like(text));
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let place = |sql| patterns.iter().map(move |pattern| Term { sql, values: vec![text(pattern)] });
    let (request, response) = ("request LIKE ? ESCAPE '\\'", "response LIKE ? ESCAPE '\\'");
    Condition(place(request).chain(place(response)).collect())
}

/// JSON text without a character outside ASCII. Source: RFC 8259, section 7.
fn ascii(json: &str) -> String {
    let mut escaped = String::new();
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

/// A text as LIKE with `ESCAPE '\'` takes it literally.
fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// A name with `*` as GLOB takes it: nothing but `*` means more than itself.
fn glob(name: &str) -> String {
    name.replace('[', "[[]").replace('?', "[?]")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<Filter, String> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Filter::parse_at(pairs, UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[track_caller]
    fn check(query: &str, sql: &str, parameters: &[&str]) {
        let (found, values) = parse(query).unwrap().sql();
        assert_eq!(found.strip_prefix("id >= ? AND id < ?").unwrap(), sql, "{query}");
        let shown: Vec<String> = values[2..]
            .iter()
            .map(|value| match value {
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => text.clone(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, parameters, "{query}");
    }

    #[test]
    fn a_filter_is_fixed_sql_and_parameters() {
        check("", "", &[]);
        check("model=gpt", " AND (model = ? OR upstream_model = ?)", &["gpt", "gpt"]);
        check("model=g?[p*", " AND (model GLOB ? OR upstream_model GLOB ?)", &["g[?][[]p*", "g[?][[]p*"]);
        check("key=a", " AND (key = ?)", &["a"]);
        check("key=a*", " AND (key GLOB ?)", &["a*"]);
        check("caller=a&tenant=b", " AND (caller = ?) AND (tenant = ?)", &["a", "b"]);
        check("status=404", " AND (status BETWEEN ? AND ?)", &["404", "404"]);
        check("status=5xx", " AND (status BETWEEN ? AND ?)", &["500", "599"]);
        check("status=>400", " AND (status BETWEEN ? AND ?)", &["401", "999"]);
        check("status=<=204", " AND (status BETWEEN ? AND ?)", &["100", "204"]);
        check("status=<200", " AND (status BETWEEN ? AND ?)", &["100", "199"]);
        check(
            "status=404, >= 500",
            " AND (status BETWEEN ? AND ? OR status BETWEEN ? AND ?)",
            &["404", "404", "500", "999"],
        );
        check("outcome=failed", " AND (outcome = ?)", &["failed"]);
        check("id=a", " AND (request_id = ?)", &["a"]);
        check("id=12", " AND (request_id = ? OR id = ?)", &["12", "12"]);
        check("ip=10.*", " AND (ip GLOB ?)", &["10.*"]);
        check("model=&label=&limit=3", "", &[]);
    }

    #[track_caller]
    fn check_postgres(query: &str, sql: &str, parameters: &[&str]) {
        let (found, values) = parse(query).unwrap().sql_of_postgres();
        assert_eq!(found.strip_prefix("id >= $1 AND id < $2").unwrap(), sql, "{query}");
        let expected: Vec<Value> = parameters.iter().map(|text| Value::Text((*text).to_owned())).collect();
        assert_eq!(values[2..], expected, "{query}");
    }

    #[test]
    fn a_filter_is_the_same_in_the_words_of_postgresql() {
        check_postgres("", "", &[]);
        check_postgres("model=gpt", " AND (model = $3 OR upstream_model = $4)", &["gpt", "gpt"]);
        check_postgres("key=a?[_%\\*", " AND (key LIKE $3)", &["a?[\\_\\%\\\\%"]);
        check_postgres(
            "text=Hi&tenant=t",
            " AND (request ILIKE $3 ESCAPE '\\' OR response ILIKE $4 ESCAPE '\\') AND (tenant = $5)",
            &["%Hi%", "%Hi%", "t"],
        );
        let label = POSTGRES_LABEL.replace('?', "$3");
        check_postgres("label=a:b", &format!(" AND ({label})"), &["a:b"]);
    }

    #[test]
    fn what_looks_like_sql_is_a_parameter() {
        for name in ["model", "key", "caller", "tenant", "upstream", "endpoint", "label", "id", "ip"] {
            let value = "x'; DROP TABLE exchanges; --\"%_\\";
            let filter = Filter::parse([(name, value)]).unwrap();
            let (sql, values) = filter.sql();
            assert!(!sql.contains("DROP"), "{name}: {sql}");
            assert_eq!(sql.matches('?').count(), values.len(), "{name}: {sql}");
            assert!(values[2..].contains(&Value::Text(value.to_owned())), "{name}");
        }
    }

    #[test]
    fn a_text_is_looked_for_as_json_writes_it() {
        let texts = |query: &str| {
            let (_, values) = parse(query).unwrap().sql();
            values[2..].iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(texts("text=hi"), r#"Text("%hi%") Text("%hi%")"#);
        assert_eq!(texts("text=5%_"), r#"Text("%5\\%\\_%") Text("%5\\%\\_%")"#);
        assert!(texts("text=\"a\"").contains(r#"%\\\\\"a\\\\\"%"#), "{}", texts("text=\"a\""));
        assert!(texts("text=é😀").contains(r"\\\\u00e9\\\\ud83d\\\\ude00"), "{}", texts("text=é😀"));
        assert!(parse("text=a").unwrap().reads_bodies() && !parse("model=a").unwrap().reads_bodies());
    }

    #[test]
    fn the_time_is_a_range_of_numbers() {
        let numbers = |query: &str| parse(query).unwrap().numbers();
        assert_eq!(numbers(""), i64::MIN..i64::MAX);
        assert_eq!(numbers("since=1970-01-02"), 86_400_000_000 * NUMBERS..i64::MAX);
        assert_eq!(numbers("until=1970-01-02").end, 2 * 86_400_000_000 * NUMBERS, "the day is included");
        assert_eq!(numbers("since=1000s").start, 999_000_000_000 * NUMBERS);
        assert_eq!(numbers("until=1000s&before=77").end, 77);
        assert_eq!(numbers("until=1970-01-01T00:00:00Z&before=77").end, 0);
    }

    #[track_caller]
    fn refused(query: &str, message: &str) {
        let problem = parse(query).unwrap_err();
        assert!(problem.contains(message), "{query}: {problem}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        refused("modle=x", "there is no filter `modle`; known are since, until, model");
        refused("a%00b=x", "there is no filter");
        refused("model=a&model=b", "`model` is given twice");
        refused("since=yesterday", "`since` is `yesterday`: give a time like");
        refused("since=1d&until=2d", "`since` is after `until`");
        for status in
            ["4x", "99", "1000", "0xx", "10xx", "xx", "abc", "200,", ">", ">=x", "=200", "-200", "+200x"]
        {
            refused(&format!("status={status}"), "`status` is");
        }
        refused(&format!("status={}", ["404"; 17].join(",")), "more than 16");
        refused("outcome=fail", "`outcome` is `fail`: give one of complete, cancelled");
        for limit in ["0", "10001", "-1", "x", "99999999999999999999", "1.5"] {
            refused(&format!("limit={limit}"), "give a number from 1 to 10000");
        }
        for before in ["0", "-5", "x", "99999999999999999999"] {
            refused(&format!("before={before}"), "`before` is");
        }
        refused(&format!("text={}", "x".repeat(1001)), "`text` is longer than 1000 bytes");
        refused("text=a\0b", "`text` holds the character U+0000");
        refused(&["label=a"; 17].join("&"), "more than 16 values of `label`");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_every_parameter_has_its_place(
            name in prop::sample::select(&Filter::NAMES[..]),
            value in "\\PC{0,30}",
            signs in "[0-9x<>=,*?%_'\";\\[\\]-]{0,12}",
        ) {
            for value in [value, signs] {
                if let Ok(filter) = Filter::parse([(name, value)]) {
                    let (sql, values) = filter.sql();
                    prop_assert_eq!(sql.matches('?').count(), values.len());
                }
            }
        }
    }
}

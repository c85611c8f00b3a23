//! Google's `Schema` as JSON Schema.

use std::ops::Range;

use crate::chat::Raw;
use crate::wire::json::{Kind, Scanner, SyntaxError, Text, quote};

type Result<T> = std::result::Result<T, SyntaxError>;

/// Writes a schema in Google's words as JSON Schema: types in small letters, `nullable` as a type, counts without quotes.
/// What it has no other word for stays as it is. None if it is not JSON.
///
/// Source: Gemini API reference, "Schema", seen 2026-11.
pub(super) fn json_schema(json: &str) -> Option<Raw> {
    let mut written = Vec::with_capacity(json.len());
    schema(&mut Scanner::new(json.as_bytes()), &mut written).ok()?;
    Raw::new(String::from_utf8(written).ok()?)
}

/// What of a schema changes if it turns out to be nullable: where in the text they stand.
#[derive(Default)]
struct Nullable {
    is_said: bool,
    word: Option<Range<usize>>,
    /// The end of the list, before its bracket.
    choices: Option<usize>,
}

impl Nullable {
    /// `nullable` may stand before or behind what it is about; so this is done last, from the back.
    fn apply(self, out: &mut Vec<u8>) {
        if !self.is_said {
            return;
        }
        let word = self.word.clone().map_or([None, None], |word| {
            [Some((word.end, br#","null"]"#.as_slice())), Some((word.start, b"[".as_slice()))]
        });
        let choices = self.choices.map(|end| (end, b",null".as_slice()));
        let mut added: Vec<_> = word.into_iter().chain([choices]).flatten().collect();
        added.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for (at, text) in added {
            out.splice(at..at, text.iter().copied());
        }
    }
}

fn schema(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<()> {
    if scanner.peek()? != Kind::Object {
        return copy(scanner, out);
    }
    let mut nullable = Nullable::default();
    out.push(b'{');
    let start = out.len();
    scanner.object(|scanner, name| {
        let name = keyword(&name.decode());
        if name == "nullable" {
            nullable.is_said |= scanner.peek()? == Kind::True;
        }
        if matches!(&*name, "nullable" | "propertyOrdering") {
            return scanner.skip().map(drop);
        }
        if out.len() > start {
            out.push(b',');
        }
        quote(&name, out);
        out.push(b':');
        value(scanner, &name, &mut nullable, out)
    })?;
    out.push(b'}');
    nullable.apply(out);
    Ok(())
}

fn value(scanner: &mut Scanner<'_>, name: &str, nullable: &mut Nullable, out: &mut Vec<u8>) -> Result<()> {
    let kind = scanner.peek()?;
    match (name, kind) {
        ("type", Kind::String) => {
            let start = out.len();
            quote(&scanner.string()?.decode().to_ascii_lowercase(), out);
            nullable.word = Some(start..out.len());
            Ok(())
        }
        ("enum", Kind::Array) => {
            copy(scanner, out)?;
            // A list without a choice would get a comma without one before it.
            nullable.choices =
                Some(out.len() - 1).filter(|end| !out[..*end].trim_ascii_end().ends_with(b"["));
            Ok(())
        }
        ("properties" | "$defs" | "definitions" | "patternProperties", Kind::Object) => named(scanner, out),
        ("items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains", Kind::Object) => {
            schema(scanner, out)
        }
        ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Kind::Array) => {
            out.push(b'[');
            let start = out.len();
            scanner.array(|scanner| {
                if out.len() > start {
                    out.push(b',');
                }
                schema(scanner, out)
            })?;
            out.push(b']');
            Ok(())
        }
        (
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties",
            Kind::String,
        ) => {
            let text = scanner.string()?;
            count(&text, out);
            Ok(())
        }
        _ => copy(scanner, out),
    }
}

fn named(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    let start = out.len();
    scanner.object(|scanner, name| {
        if out.len() > start {
            out.push(b',');
        }
        quote(&name.decode(), out);
        out.push(b':');
        schema(scanner, out)
    })?;
    out.push(b'}');
    Ok(())
}

/// A count in quotes loses them; what is no count keeps them.
fn count(text: &Text<'_>, out: &mut Vec<u8>) {
    let text = text.decode();
    match text.parse::<u64>() {
        Ok(count) => out.extend_from_slice(count.to_string().as_bytes()),
        Err(_) => quote(&text, out),
    }
}

fn copy(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<()> {
    let range = scanner.skip()?;
    out.extend_from_slice(scanner.slice(range).as_bytes());
    Ok(())
}

/// The word of JSON Schema for one of Google's, which may be in snake_case.
fn keyword(name: &str) -> String {
    match name {
        "any_of" => "anyOf",
        "additional_properties" => "additionalProperties",
        "min_items" => "minItems",
        "max_items" => "maxItems",
        "min_length" => "minLength",
        "max_length" => "maxLength",
        "min_properties" => "minProperties",
        "max_properties" => "maxProperties",
        "property_ordering" => "propertyOrdering",
        "defs" => "$defs",
        "ref" => "$ref",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(google: &str, expected: &str) {
        assert_eq!(json_schema(google).unwrap().get(), expected);
    }

    #[test]
    fn a_schema_is_told_in_the_words_of_json_schema() {
        check(r#"{"type":"STRING"}"#, r#"{"type":"string"}"#);
        check(r#"{"type":"INTEGER","nullable":true}"#, r#"{"type":["integer","null"]}"#);
        check(
            r#"{"nullable":true,"type":"STRING","enum":["a"]}"#,
            r#"{"type":["string","null"],"enum":["a",null]}"#,
        );
        check(
            r#"{"type":"ARRAY","items":{"type":"NUMBER"},"minItems":"2"}"#,
            r#"{"type":"array","items":{"type":"number"},"minItems":2}"#,
        );
        check(
            r##"{"any_of":[{"type":"STRING"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"BOOLEAN"}}}"##,
            r##"{"anyOf":[{"type":"string"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"boolean"}}}"##,
        );
        check(r#"{"nullable":false,"anyOf":[]}"#, r#"{"anyOf":[]}"#);
        check("{}", "{}");
    }

    #[test]
    fn names_of_properties_are_not_keywords() {
        check(
            r#"{"type":"OBJECT","properties":{"nullable":{"type":"STRING"},"type":{"type":"STRING"}}}"#,
            r#"{"type":"object","properties":{"nullable":{"type":"string"},"type":{"type":"string"}}}"#,
        );
    }

    #[test]
    fn a_schema_in_json_schema_stays() {
        let schema = r#"{"type":["string","null"],"additionalProperties":false,"default":{"type":"X"}}"#;
        check(schema, schema);
    }
}

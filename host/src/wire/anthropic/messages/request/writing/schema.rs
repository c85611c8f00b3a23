//! Schemas of answers in the part of JSON Schema that this surface takes.
//!
//! Source: Anthropic, "Structured outputs", "JSON Schema limitations", and `transform_schema` of its client for Python,
//! 2.12, seen 2026-11.

use crate::wire::json::{Members, Writer, elements, list};

/// How deep a schema is read; what is deeper is written as it is.
const DEPTH_MAX: u32 = 64;

/// The forms of texts that are taken.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Keywords with a schema, a list of schemas or schemas by name.
const NESTED: [(&str, &str); 8] = [
    ("$defs", "$defs"),
    ("definitions", "definitions"),
    ("properties", "properties"),
    ("items", "items"),
    ("anyOf", "anyOf"),
    ("oneOf", "anyOf"),
    ("allOf", "allOf"),
    ("prefixItems", "prefixItems"),
];

/// Keywords that are taken as they are.
const PLAIN: [&str; 8] = ["$ref", "type", "enum", "const", "title", "required", "default", "examples"];

/// Writes a schema: objects are closed, and what is not taken becomes a part of the description, so that the model may
/// keep to it all the same.
pub(super) fn write(schema: &str, out: &mut Vec<u8>) {
    write_at(schema, DEPTH_MAX, out);
}

fn write_at(schema: &str, depth: u32, out: &mut Vec<u8>) {
    let Some(members) = Members::of(schema).filter(|_| depth > 0) else {
        out.extend_from_slice(schema.as_bytes());
        return;
    };
    let mut writer = Writer::new(out);
    let kind = members.get("type");
    let is_object = kind.is_some_and(|kind| kind.contains("\"object\""));
    if let Some(kind) = kind {
        writer.raw("type", kind);
    }
    for name in PLAIN {
        if let Some(value) = members.get(name) {
            writer.raw(name, value);
        }
    }
    let has_any_of = members.has("anyOf");
    // Of two lists of alternatives one can be written; the other is described.
    for (name, written) in NESTED.into_iter().filter(|(name, _)| !(has_any_of && *name == "oneOf")) {
        if let Some(value) = members.get(name) {
            write_nested(name, value, depth - 1, writer.member(written));
        }
    }
    if is_object {
        members.get("additionalProperties");
        writer.plain("additionalProperties", false);
    }
    write_rest(members, &mut writer);
    writer.finish();
}

fn write_nested(name: &str, value: &str, depth: u32, out: &mut Vec<u8>) {
    if matches!(name, "$defs" | "definitions" | "properties") {
        let Some(members) = Members::of(value) else { return out.extend_from_slice(b"{}") };
        let mut writer = Writer::new(out);
        for (name, schema) in members.rest(&[]).0 {
            write_at(schema.get(), depth, writer.member(&name));
        }
        writer.finish();
        return;
    }
    match elements(value) {
        Some(schemas) => list(out, schemas, |schema, out| write_at(schema, depth, out)),
        None => write_at(value, depth, out),
    }
}

/// Writes the form of a text, the least number of elements and the description, with what is left in it.
fn write_rest(members: Members<'_>, writer: &mut Writer<&mut Vec<u8>>) {
    let mut notes = Vec::new();
    if let Some(format) = members.get("format") {
        if FORMATS.iter().any(|known| format.trim_matches('"') == *known) {
            writer.raw("format", format);
        } else {
            notes.push(format!("format: {format}"));
        }
    }
    if let Some(least) = members.get("minItems") {
        if matches!(least, "0" | "1") {
            writer.raw("minItems", least);
        } else {
            notes.push(format!("minItems: {least}"));
        }
    }
    let description = members.string("description");
    let rest = members.rest(&[]).0.into_iter().filter(|(name, _)| name != "$schema" && name != "$id");
    notes.extend(rest.map(|(name, value)| format!("{name}: {}", value.get())));
    let notes = (!notes.is_empty()).then(|| format!("{{{}}}", notes.join(", ")));
    let parts: Vec<String> = description.into_iter().chain(notes).collect();
    if !parts.is_empty() {
        writer.string("description", &parts.join("\n\n"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(schema: Value, expected: Value) {
        let mut out = Vec::new();
        write(&schema.to_string(), &mut out);
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }

    // parity: 105
    #[test]
    fn what_is_not_taken_becomes_a_description() {
        check(
            json!({"type": "integer", "minimum": 1, "description": "A number"}),
            json!({"type": "integer", "description": "A number\n\n{minimum: 1}"}),
        );
        check(
            json!({"anyOf": [{"const": 1}], "oneOf": [true]}),
            json!({"anyOf": [{"const": 1}], "description": "{oneOf: [true]}"}),
        );
        check(json!({"type": "string", "format": "uuid"}), json!({"type": "string", "format": "uuid"}));
        check(
            json!({"type": "string", "format": "phone"}),
            json!({"type": "string", "description": "{format: \"phone\"}"}),
        );
        check(
            json!({"type": "array", "items": {"type": "object"}, "minItems": 2}),
            json!({
                "type": "array", "items": {"type": "object", "additionalProperties": false},
                "description": "{minItems: 2}",
            }),
        );
    }

    #[test]
    fn every_object_is_closed() {
        check(
            json!({
                "$schema": "s", "type": ["object", "null"], "additionalProperties": true, "required": ["a"],
                "properties": {"a": {"oneOf": [{"type": "object"}, {"$ref": "#/$defs/b"}]}, "type": {"enum": [1]}},
                "$defs": {"b": {"type": "object", "properties": {}}},
            }),
            json!({
                "type": ["object", "null"], "additionalProperties": false, "required": ["a"],
                "properties": {
                    "a": {"anyOf": [{"type": "object", "additionalProperties": false}, {"$ref": "#/$defs/b"}]},
                    "type": {"enum": [1]},
                },
                "$defs": {"b": {"type": "object", "properties": {}, "additionalProperties": false}},
            }),
        );
    }

    #[test]
    fn no_depth_is_too_deep() {
        let deep = format!("{}1{}", r#"{"items":"#.repeat(5000), "}".repeat(5000));
        let mut out = Vec::new();
        write(&deep, &mut out);
        assert_eq!(out, deep.as_bytes());
        check(json!(true), json!(true));
        check(json!({"properties": 1, "anyOf": {}}), json!({"properties": {}, "anyOf": {}}));
    }
}

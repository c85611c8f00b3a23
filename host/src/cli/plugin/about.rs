//! `witgate plugin inspect`: what a component is, without running it.

use std::fmt::Write as _;

use serde_json::Value;

use super::component;
use crate::plugin::about::About;

/// Prints what a component is, for people or as JSON.
///
/// # Errors
///
/// A message when it cannot be read, or is no plugin for this gateway.
pub(super) fn run(source: &str, json: bool) -> Result<(), String> {
    let about = About::of(&component(source)?).map_err(|problem| format!("`{source}`: {problem}"))?;
    if json {
        let text = serde_json::to_string_pretty(&about.to_json());
        println!("{}", text.expect("names and numbers are valid JSON"));
    } else {
        print!("{}", describe(source, &about));
    }
    Ok(())
}

/// What a component is, in lines for people.
pub(super) fn describe(source: &str, about: &About) -> String {
    let manifest = &about.manifest;
    let mut text = format!("{source}\n");
    let mut line =
        |name: &str, value: &str| writeln!(text, "  {name:<12}{value}").expect("a String takes all");
    let named = [&manifest.name, &manifest.version].into_iter().flatten().map(String::as_str);
    line(
        "plugin",
        &Some(named.collect::<Vec<_>>().join(" ")).filter(|name| !name.is_empty()).unwrap_or_else(unnamed),
    );
    if let Some(description) = &manifest.description {
        line("", description);
    }
    line("contract", &about.contract);
    line("hooks", &about.hooks.to_string());
    line("size", &bytes(about.bytes_len as u64));
    line("memory", &format!("{} to begin with", bytes(about.memory_bytes)));
    line("sha256", &about.sha256);
    let mut name = "imports";
    for import in &about.imports {
        match import.grant {
            Some(grant) => line(name, &format!("{}  needs `allow: {{ {grant} }}`", import.name)),
            None => line(name, &import.name),
        }
        name = "";
    }
    if about.imports.is_empty() {
        line(name, "nothing");
    }
    match &manifest.schema {
        None => line("config", "no schema: anything is passed on"),
        Some(schema) => match table(schema) {
            table if table.is_empty() => line("config", "none"),
            table => {
                text.push_str("  config\n");
                text.push_str(&table);
            }
        },
    }
    text
}

fn unnamed() -> String {
    "says no name".to_owned()
}

/// A count with commas between its thousands.
fn bytes(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + " bytes"
}

/// The fields of a configuration: path, type, default or `required`, and what they are.
fn table(schema: &Value) -> String {
    let mut rows = Vec::new();
    fields(schema, "", &mut rows);
    let width =
        |column: usize| rows.iter().map(|row: &[String; 4]| row[column].chars().count()).max().unwrap_or(0);
    let (path, kind, usual) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [name, of, default, what] in &rows {
        let line = format!("    {name:<path$}  {of:<kind$}  {default:<usual$}  {what}");
        writeln!(text, "{}", line.trim_end()).expect("a String takes all");
    }
    text
}

fn fields(schema: &Value, prefix: &str, rows: &mut Vec<[String; 4]>) {
    for name in ["anyOf", "oneOf"] {
        schema[name].as_array().into_iter().flatten().for_each(|case| fields(case, prefix, rows));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let is_required =
            schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name.as_str()));
        let usual = match field.get("default") {
            Some(default) => default.to_string(),
            None if is_required => "required".to_owned(),
            None => String::new(),
        };
        rows.push([
            path.clone(),
            kind(field),
            usual,
            sentence(field["description"].as_str().unwrap_or_default()),
        ]);
        fields(field, &format!("{path}."), rows);
        fields(&field["items"], &format!("{path}[]."), rows);
        fields(&field["additionalProperties"], &format!("{path}.*."), rows);
    }
}

/// The first sentence, which is all a line has room for; `--json` has the rest.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.find(". ").map_or(line.len(), |at| at + 1);
    line[..end].to_owned()
}

/// The type of a value in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(cases) = schema["enum"].as_array() {
        return cases.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(one) = schema.get("const") {
        return one.to_string();
    }
    for name in ["anyOf", "oneOf"] {
        if let Some(cases) = schema[name].as_array() {
            let mut kinds: Vec<String> = cases.iter().map(kind).collect();
            kinds.dedup();
            return kinds.join(" | ");
        }
    }
    match &schema["type"] {
        Value::String(word) if word == "array" && schema["items"].is_object() => {
            let item = kind(&schema["items"]);
            if item.contains('|') { format!("({item})[]") } else { format!("{item}[]") }
        }
        Value::String(word) => word.clone(),
        _ => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_component_is_described_in_a_page() {
        let about = About::of(&component("builtin:think-strip").unwrap()).unwrap();
        let text = describe("builtin:think-strip", &about);
        for part in [
            "  plugin      think-strip 0.1.0\n",
            "stream-text",
            "witgate:plugin@0.1.0",
            "tags[].open",
            "\"strip\"",
        ] {
            assert!(text.contains(part), "{part} is in:\n{text}");
        }
    }

    #[track_caller]
    fn check(schema: Value, expected: &str) {
        assert_eq!(table(&schema), expected);
    }

    #[test]
    fn a_schema_becomes_a_table() {
        check(json!({"type": "object", "additionalProperties": false}), "");
        check(
            json!({
                "properties": {
                    "mode": {"enum": ["a", "b"], "default": "a", "description": "What\nto do. And more."},
                    "n": {"type": "integer"},
                    "rules": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
                },
                "required": ["n"],
            }),
            "    mode       \"a\" | \"b\"  \"a\"       What to do.\n    n          integer    required\n    rules      object[]\n    rules[].x  string\n",
        );
    }

    #[test]
    fn counts_are_readable() {
        for (count, text) in
            [(0, "0 bytes"), (999, "999 bytes"), (1000, "1,000 bytes"), (1_234_567, "1,234,567 bytes")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn an_unknown_builtin_is_said() {
        assert!(component("builtin:think").unwrap_err().contains("`builtin:think-strip`"));
        assert!(component("no/such.wasm").unwrap_err().contains("`no/such.wasm` cannot be read"));
    }
}

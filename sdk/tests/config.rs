//! What the derive of `Config` writes, and how a configuration is read.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};
use witgate_sdk::testkit::Kit;
use witgate_sdk::{Config, Plugin};

/// A plugin that has nothing but its configuration.
struct Has<C>(C);

impl<C: Config + 'static> Plugin for Has<C> {
    type Config = C;
    fn new(config: C) -> Result<Self, String> {
        Ok(Self(config))
    }
}

#[track_caller]
fn check<C: Config + 'static>(expected: Value) {
    assert_eq!(Kit::<Has<C>>::schema(), expected);
}

#[track_caller]
fn check_refused<C: Config + 'static>(config: Value, expected: &str) {
    assert_eq!(Kit::<Has<C>>::try_new(config).err().as_deref(), Some(expected));
}

/// Says what to do.
///
/// A second paragraph,
/// "quoted".
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Scalars {
    /// A switch.
    flag: bool,
    small: u8,
    #[config(minimum = 1, maximum = 10)]
    bounded: u32,
    signed: i8,
    #[config(exclusive_minimum = -1.5, example = 0.5, example = 2)]
    ratio: f64,
    #[config(pattern = "^[a-z]+$", min_length = 1, max_length = 9, default = "a")]
    name: String,
    letter: Option<char>,
    #[serde(rename = "type")]
    kind: u64,
    #[serde(skip)]
    hidden: Option<std::time::Duration>,
}

#[test]
fn scalars_have_their_bounds_and_descriptions() {
    check::<Scalars>(json!({
        "type": "object",
        "description": "Says what to do.\n\nA second paragraph, \"quoted\".",
        "additionalProperties": false,
        "properties": {
            "flag": {"type": "boolean", "description": "A switch."},
            "small": {"type": "integer", "minimum": 0, "maximum": 255},
            "bounded": {"type": "integer", "minimum": 1, "maximum": 10},
            "signed": {"type": "integer", "minimum": -128, "maximum": 127},
            "ratio": {"type": "number", "exclusiveMinimum": -1.5, "examples": [0.5, 2]},
            "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "maxLength": 9, "default": "a"},
            "letter": {"type": "string", "minLength": 1, "maxLength": 1},
            "type": {"type": "integer", "minimum": 0},
        },
    }));
}

/// The inner one.
#[derive(Config, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Inner {
    the_words: Vec<String>,
    by_name: HashMap<String, u16>,
    #[serde(default)]
    anything: Value,
}

#[derive(Config, Deserialize)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Nested {
    inner: Inner,
    /// The field's own words count.
    described: Inner,
    #[config(min_items = 1, max_items = 3)]
    list: Vec<Name>,
    map: BTreeMap<String, Option<Box<bool>>>,
    #[serde(alias = "old")]
    new: bool,
    #[config(schema = r#"{"type": "string", "format": "date"}"#)]
    #[serde(deserialize_with = "Deserialize::deserialize")]
    date: String,
}

/// A name.
#[derive(Config, Deserialize)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Name(String);

#[test]
fn types_nest() {
    let anything = json!({"type": ["object", "array", "string", "number", "boolean", "null"]});
    let inner = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "properties": {
                "the-words": {"type": "array", "items": {"type": "string"}},
                "by-name": {
                    "type": "object",
                    "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 65535},
                },
                "anything": anything,
            },
            "required": ["the-words", "by-name"],
        })
    };
    let name = json!({"type": "string", "description": "A name."});
    check::<Nested>(json!({
        "type": "object",
        "properties": {
            "inner": inner("The inner one."),
            "described": inner("The field's own words count."),
            "list": {"type": "array", "items": name, "minItems": 1, "maxItems": 3},
            "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "new": {"type": "boolean"},
            "old": {"type": "boolean"},
            "date": {"type": "string", "format": "date"},
        },
        "required": ["inner", "described", "list", "map", "date"],
    }));
}

/// What to do with it.
#[derive(Config, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Removes it.
    StripAll,
    #[serde(rename = "leave")]
    Keep,
}

#[derive(Config, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only the schema is looked at")]
enum External {
    Off,
    /// By size.
    Size(u8),
    Area {
        width: u8,
        height: Option<u8>,
    },
}

#[derive(Config, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is looked at")]
enum Internal {
    All,
    /// Some of it.
    Some {
        how_many: u8,
    },
}

#[derive(Config, Deserialize)]
#[serde(tag = "t", content = "c")]
#[expect(dead_code, reason = "only the schema is looked at")]
enum Adjacent {
    None,
    Text(String),
}

#[derive(Config, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is looked at")]
enum Untagged {
    One(String),
    Many(Vec<String>),
}

#[test]
fn enums_are_told_as_serde_tells_them() {
    check::<Mode>(json!({
        "type": "string",
        "enum": ["strip_all", "leave"],
        "description": "What to do with it.\n\n`strip_all`: Removes it.",
    }));
    let byte = json!({"type": "integer", "minimum": 0, "maximum": 255});
    let area =
        json!({"type": "object", "properties": {"width": byte, "height": byte}, "required": ["width"]});
    check::<External>(json!({"oneOf": [
        {"type": "string", "enum": ["off"]},
        {
            "type": "object", "properties": {"size": byte}, "required": ["size"],
            "additionalProperties": false, "description": "By size.",
        },
        {"type": "object", "properties": {"area": area}, "required": ["area"], "additionalProperties": false},
    ]}));
    check::<Internal>(json!({"oneOf": [
        {"type": "object", "properties": {"type": {"const": "all"}}, "required": ["type"], "additionalProperties": false},
        {
            "type": "object", "properties": {"type": {"const": "some"}, "howMany": byte},
            "required": ["type", "howMany"], "additionalProperties": false, "description": "Some of it.",
        },
    ]}));
    check::<Adjacent>(json!({"oneOf": [
        {"type": "object", "properties": {"t": {"const": "None"}}, "required": ["t"], "additionalProperties": false},
        {
            "type": "object", "properties": {"t": {"const": "Text"}, "c": {"type": "string"}},
            "required": ["t", "c"], "additionalProperties": false,
        },
    ]}));
    check::<Untagged>(json!({"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
    ]}));
}

#[test]
fn no_configuration_takes_nothing() {
    check::<()>(json!({"type": "object", "additionalProperties": false}));
    for config in [json!({}), json!(null)] {
        assert!(Kit::<Has<()>>::try_new(config).is_ok());
    }
    assert!(<()>::from_json("").is_ok());
    assert!(<()>::from_json(" { \n} ").is_ok());
    check_refused::<()>(json!({"a": 1}), "the plugin has no configuration: remove `config`");
}

#[test]
fn a_configuration_is_read_by_serde() {
    let kit = Kit::<Has<Mode>>::new(json!("leave"));
    assert!(matches!(kit.plugin().0, Mode::Keep));
    assert!(Kit::<Has<Scalars>>::try_new(json!(null)).is_ok());
}

#[test]
fn a_configuration_is_held_against_its_schema() {
    check_refused::<Scalars>(json!({"bounded": 11}), "`config.bounded`: 11 is out of bounds");
    check_refused::<Scalars>(json!({"name": ""}), "`config.name`: a length of 0 is out of bounds");
    check_refused::<Scalars>(json!({"bounded": -1}), "`bounded`: invalid value: integer `-1`, expected u32");
}

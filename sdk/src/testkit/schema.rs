//! Holds a configuration against its JSON Schema, as far as the derive of `Config` writes one. `pattern` is not checked.

use serde_json::Value;

/// Checks a value.
///
/// # Errors
///
/// Says what is wrong, and where.
pub(super) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    check_at("config", schema, value)
}

fn check_at(place: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |what: String| Err(format!("`{place}`: {what}"));
    if !has_type(&schema["type"], value) {
        return wrong(format!("{value} is not of type {}", schema["type"]));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return wrong(format!("{value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return wrong(format!("{value} is none of {}", schema["enum"]));
    }
    check_alternatives(place, schema, value)?;
    match value {
        Value::Number(number) => check_bounds(place, schema, number.as_f64().unwrap_or_default()),
        Value::String(text) => check_len(place, schema, "Length", text.chars().count()),
        Value::Array(items) => {
            check_len(place, schema, "Items", items.len())?;
            let mut numbered = items.iter().enumerate();
            numbered.try_for_each(|(i, item)| check_at(&format!("{place}.{i}"), &schema["items"], item))
        }
        Value::Object(_) => check_members(place, schema, value),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("the schema has the type `{other}`, which JSON does not know"),
    };
    match types {
        Value::Null => true,
        Value::Array(types) => types.iter().filter_map(Value::as_str).any(is),
        types => types.as_str().is_some_and(is),
    }
}

fn check_alternatives(place: &str, schema: &Value, value: &Value) -> Result<(), String> {
    for (keyword, is_wrong) in
        [("oneOf", (|count| count != 1) as fn(usize) -> bool), ("anyOf", |count| count == 0)]
    {
        let Some(alternatives) = schema[keyword].as_array() else { continue };
        let count = alternatives.iter().filter(|schema| check_at(place, schema, value).is_ok()).count();
        if is_wrong(count) {
            return Err(format!("`{place}`: {value} fits {count} of the alternatives of `{keyword}`"));
        }
    }
    Ok(())
}

fn check_bounds(place: &str, schema: &Value, number: f64) -> Result<(), String> {
    let bound = |keyword: &str| schema[keyword].as_f64();
    let is_wrong = bound("minimum").is_some_and(|bound| number < bound)
        || bound("maximum").is_some_and(|bound| number > bound)
        || bound("exclusiveMinimum").is_some_and(|bound| number <= bound)
        || bound("exclusiveMaximum").is_some_and(|bound| number >= bound);
    if is_wrong { Err(format!("`{place}`: {number} is out of bounds")) } else { Ok(()) }
}

fn check_len(place: &str, schema: &Value, of: &str, len: usize) -> Result<(), String> {
    let bound = |keyword: &str| schema[format!("{keyword}{of}")].as_u64();
    let len = len as u64;
    let is_wrong = bound("min").is_some_and(|min| len < min) || bound("max").is_some_and(|max| len > max);
    if is_wrong { Err(format!("`{place}`: a length of {len} is out of bounds")) } else { Ok(()) }
}

fn check_members(place: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let members = value.as_object().expect("only objects come here");
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Err(format!("`{place}`: `{name}` is missing"));
        }
    }
    for (name, member) in members {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("`{place}`: there is no `{name}`")),
            (Value::Null, schema) | (schema, _) => check_at(&format!("{place}.{name}"), schema, member)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_fits(schema: &Value, value: Value) {
        assert_eq!(check(schema, &value), Ok(()));
    }

    #[track_caller]
    fn check_wrong(schema: &Value, value: Value, expected: &str) {
        assert_eq!(check(schema, &value).unwrap_err(), expected);
    }

    #[test]
    fn scalars_are_held_against_type_and_bounds() {
        let schema = json!({"type": "integer", "minimum": 1, "exclusiveMaximum": 3});
        check_fits(&schema, json!(1));
        check_fits(&schema, json!(2.0));
        check_wrong(&schema, json!(3), "`config`: 3 is out of bounds");
        check_wrong(&schema, json!(1.5), r#"`config`: 1.5 is not of type "integer""#);
        let schema = json!({"type": ["string", "null"], "minLength": 2});
        check_fits(&schema, json!(null));
        check_wrong(&schema, json!("é"), "`config`: a length of 1 is out of bounds");
        check_wrong(&json!({"enum": ["a"]}), json!("b"), r#"`config`: "b" is none of ["a"]"#);
    }

    #[test]
    fn objects_and_arrays_are_held_against_their_parts() {
        let item = json!({"type": "object", "properties": {"b": {"type": "boolean"}}, "additionalProperties": false});
        let list = json!({"type": "array", "items": item, "maxItems": 2});
        let schema = json!({"type": "object", "properties": {"a": list}, "required": ["a"]});
        check_fits(&schema, json!({"a": [{}, {"b": true}], "c": 1}));
        check_wrong(&schema, json!({}), "`config`: `a` is missing");
        check_wrong(&schema, json!({"a": [{}, {"c": 1}]}), "`config.a.1`: there is no `c`");
        check_wrong(&schema, json!({"a": [{"b": 1}]}), r#"`config.a.0.b`: 1 is not of type "boolean""#);
        check_wrong(&schema, json!({"a": [{}, {}, {}]}), "`config.a`: a length of 3 is out of bounds");
        let map = json!({"additionalProperties": {"type": "string"}});
        check_wrong(&map, json!({"x": 1}), r#"`config.x`: 1 is not of type "string""#);
    }

    #[test]
    fn one_or_any_of_the_alternatives_fits() {
        let schema = json!({"oneOf": [{"const": "a"}, {"type": "string", "maxLength": 1}]});
        check_fits(&schema, json!("b"));
        check_wrong(&schema, json!("a"), r#"`config`: "a" fits 2 of the alternatives of `oneOf`"#);
        check_wrong(
            &json!({"anyOf": [{"type": "null"}]}),
            json!(1),
            "`config`: 1 fits 0 of the alternatives of `anyOf`",
        );
    }
}

//! Tools and which of them are to be called, both ways.

use crate::chat::{Extra, Field, Function, Raw, Tool, ToolChoice};
use crate::error::Result;
use crate::wire::convert::Terms;
use crate::wire::gemini::schema::json_schema;
use crate::wire::json::{Cursor, Kind, Writer, compact, quote};

/// Reads `tools`: each has functions, or is one that Google runs.
pub(super) fn read(value: &mut Cursor<'_, '_>, tools: &mut Vec<Tool>) -> Result<()> {
    value.one_or_more(|tool| {
        tool.members(|name, value| {
            if name == "functionDeclarations" {
                return value.one_or_more(|value| {
                    tools.push(Tool::Function(function(value)?));
                    Ok(())
                });
            }
            let mut json = b"{".to_vec();
            quote(name, &mut json);
            json.push(b':');
            json.extend_from_slice(compact(value.json()?).as_bytes());
            json.push(b'}');
            let json = String::from_utf8(json).ok().and_then(Raw::new);
            let json = json.ok_or_else(|| value.must_be("valid JSON"))?;
            tools.push(Tool::Other { kind: name.to_owned(), json });
            Ok(())
        })
    })
}

fn function(value: &mut Cursor<'_, '_>) -> Result<Function> {
    let (mut name, mut description, mut parameters) = (None, None, None);
    let mut extra = Extra::default();
    value.members(|key, value| {
        match key {
            "name" => name = Some(value.text()?.into_owned()),
            "description" => description = Some(value.text()?.into_owned()),
            "parameters" => parameters = Some(schema(value)?),
            "parametersJsonSchema" => parameters = Some(raw(value)?),
            _ => extra.0.push((key.to_owned(), raw(value)?)),
        }
        Ok(())
    })?;
    let name = name.filter(|name| !name.is_empty());
    let Some(name) = name else { return Err(value.must_be("an object with `name`")) };
    Ok(Function { name, description, parameters, strict: None, cache: None, extra })
}

/// Reads a schema in Google's words.
pub(super) fn schema(value: &mut Cursor<'_, '_>) -> Result<Raw> {
    if value.kind() != Some(Kind::Object) {
        return Err(value.must_be("a schema"));
    }
    json_schema(&compact(value.json()?)).ok_or_else(|| value.must_be("a schema"))
}

/// Takes JSON over as it is.
pub(super) fn raw(value: &mut Cursor<'_, '_>) -> Result<Raw> {
    Raw::new(compact(value.json()?)).ok_or_else(|| value.must_be("valid JSON"))
}

/// Reads `toolConfig`; returns what is not about functions.
pub(super) fn read_choice(
    value: &mut Cursor<'_, '_>,
    choice: &mut Option<ToolChoice>,
) -> Result<Option<Raw>> {
    let mut rest = Writer::default();
    value.members(|key, value| {
        if key == "functionCallingConfig" {
            *choice = calling(value)?;
        } else {
            rest.member(key).extend_from_slice(compact(value.json()?).as_bytes());
        }
        Ok(())
    })?;
    Ok(rest.into_raw())
}

fn calling(value: &mut Cursor<'_, '_>) -> Result<Option<ToolChoice>> {
    let (mut mode, mut names) = (String::new(), Vec::new());
    value.members(|key, value| {
        match key {
            "mode" => mode = value.text()?.to_ascii_uppercase(),
            "allowedFunctionNames" => names = value.texts()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(match &*mode {
        "NONE" => ToolChoice::None,
        "ANY" if names.len() == 1 => ToolChoice::Named(names.remove(0)),
        "ANY" if names.is_empty() => ToolChoice::Required,
        "ANY" => ToolChoice::Among { names, is_required: true },
        "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED" | "" if names.is_empty() => ToolChoice::Auto,
        "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED" | "" => ToolChoice::Among { names, is_required: false },
        _ => {
            let message =
                format!("`{mode}` is no mode of function calling, use `AUTO`, `ANY`, `NONE` or `VALIDATED`");
            return Err(value.invalid(message));
        }
    }))
}

/// Writes `tools`, if there are any.
pub(super) fn write(tools: &[Tool], is_own: bool, terms: &mut Terms<'_>, out: &mut Writer) -> Result<()> {
    let (mut functions, mut others) = (Vec::new(), Vec::new());
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                if !functions.is_empty() {
                    functions.push(b',');
                }
                write_function(function, is_own, terms, &mut functions)?;
            }
            Tool::Other { json, .. } if is_own => {
                others.push(b',');
                others.extend_from_slice(json.get().as_bytes());
            }
            Tool::Other { .. } => terms.cannot(Field::VendorTool)?,
        }
    }
    if functions.is_empty() && others.is_empty() {
        return Ok(());
    }
    let list = out.member("tools");
    list.push(b'[');
    if functions.is_empty() {
        others.remove(0);
    } else {
        list.extend_from_slice(br#"{"functionDeclarations":["#);
        list.append(&mut functions);
        list.extend_from_slice(b"]}");
    }
    list.append(&mut others);
    list.push(b']');
    Ok(())
}

fn write_function(function: &Function, is_own: bool, terms: &mut Terms<'_>, out: &mut Vec<u8>) -> Result<()> {
    let Function { name, description, parameters, strict, cache, extra } = function;
    let mut object = Writer::new(out);
    object.string("name", name);
    if let Some(description) = description {
        object.string("description", description);
    }
    if let Some(parameters) = parameters {
        object.raw("parametersJsonSchema", parameters.get());
    }
    if *strict == Some(true) {
        terms.cannot(Field::ToolStrict)?;
    }
    if cache.is_some() {
        terms.cannot(Field::CacheControl)?;
    }
    if is_own {
        extra.0.iter().for_each(|(name, json)| object.raw(name, json.get()));
    } else if !extra.0.is_empty() {
        terms.cannot(Field::Unknown)?;
    }
    object.finish();
    Ok(())
}

/// Writes `toolConfig`; `rest` is what of it is not about functions.
pub(super) fn write_choice(choice: Option<&ToolChoice>, rest: Option<&Raw>, out: &mut Writer) {
    let (mode, names): (_, &[String]) = match choice {
        None => ("", &[]),
        Some(ToolChoice::Auto) => ("AUTO", &[]),
        Some(ToolChoice::None) => ("NONE", &[]),
        Some(ToolChoice::Required) => ("ANY", &[]),
        Some(ToolChoice::Named(name)) => ("ANY", std::slice::from_ref(name)),
        Some(ToolChoice::Among { names, is_required: true }) => ("ANY", names),
        Some(ToolChoice::Among { names, is_required: false }) => ("VALIDATED", names),
    };
    let mut config = Writer::default();
    if let Some(rest) = rest {
        config.members_of(rest.get());
    }
    if !mode.is_empty() {
        config.object("functionCallingConfig", |calling| {
            calling.string("mode", mode);
            if !names.is_empty() {
                calling.strings("allowedFunctionNames", names);
            }
        });
    }
    if !config.is_empty() {
        out.member("toolConfig").append(&mut config.finish());
    }
}

//! What doc comments, `#[serde(…)]` and `#[config(…)]` say about a type, a variant or a field.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, ExprUnary, Field, Lit, LitStr, Meta, Token, UnOp, Variant, token};

use super::case::Rule;
use crate::json;

/// How an enum's variant is told.
#[derive(Default)]
pub(super) enum Tagging {
    #[default]
    External,
    Internal {
        tag: String,
    },
    Adjacent {
        tag: String,
        content: String,
    },
    Untagged,
}

/// What is said of a whole type.
#[derive(Default)]
pub(super) struct ContainerAttributes {
    pub(super) rename_all: Rule,
    pub(super) rename_all_fields: Rule,
    pub(super) has_defaults: bool,
    pub(super) denies_unknown: bool,
    pub(super) is_transparent: bool,
    pub(super) tagging: Tagging,
}

impl ContainerAttributes {
    pub(super) fn of(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut this = Self::default();
        let (mut tag, mut content) = (None, None);
        for_each(attributes, "serde", |meta| {
            match name(&meta).as_str() {
                "rename_all" => this.rename_all = rule(&meta)?,
                "rename_all_fields" => this.rename_all_fields = rule(&meta)?,
                "default" => {
                    this.has_defaults = true;
                    skip_value(&meta)?;
                }
                "deny_unknown_fields" => this.denies_unknown = true,
                "transparent" => this.is_transparent = true,
                "untagged" => this.tagging = Tagging::Untagged,
                "tag" => tag = Some(text(&meta)?),
                "content" => content = Some(text(&meta)?),
                "from" | "try_from" | "remote" => {
                    return Err(meta.error("the schema cannot see through a conversion: derive `Config` for the type that is read"));
                }
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        this.tagging = match (tag, content) {
            (Some(tag), Some(content)) => Tagging::Adjacent { tag, content },
            (Some(tag), None) => Tagging::Internal { tag },
            (None, _) => this.tagging,
        };
        for_each(attributes, "config", |meta| Err(meta.error("`config` is an attribute of fields")))?;
        Ok(this)
    }
}

/// What is said of a variant.
#[derive(Default)]
pub(super) struct VariantAttributes {
    pub(super) name: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) rename_all: Rule,
    pub(super) is_skipped: bool,
    pub(super) is_other: bool,
}

impl VariantAttributes {
    pub(super) fn of(variant: &Variant) -> syn::Result<Self> {
        let mut this = Self::default();
        for_each(&variant.attrs, "serde", |meta| {
            match name(&meta).as_str() {
                "rename" => this.name = rename(&meta)?.or_else(|| this.name.take()),
                "alias" => this.aliases.push(text(&meta)?),
                "rename_all" => this.rename_all = rule(&meta)?,
                "skip" | "skip_deserializing" => this.is_skipped = true,
                "other" => this.is_other = true,
                "untagged" | "with" | "deserialize_with" => return Err(unsupported(&meta)),
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        for_each(&variant.attrs, "config", |meta| Err(meta.error("`config` is an attribute of fields")))?;
        Ok(this)
    }
}

/// What is said of a field.
#[derive(Default)]
pub(super) struct FieldAttributes {
    pub(super) name: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) has_default: bool,
    pub(super) is_skipped: bool,
    pub(super) description: Option<String>,
    pub(super) constraints: Constraints,
}

impl FieldAttributes {
    pub(super) fn of(field: &Field) -> syn::Result<Self> {
        let mut this = Self {
            description: description(&field.attrs),
            constraints: Constraints::of(&field.attrs)?,
            ..Self::default()
        };
        for_each(&field.attrs, "serde", |meta| {
            match name(&meta).as_str() {
                "rename" => this.name = rename(&meta)?.or_else(|| this.name.take()),
                "alias" => this.aliases.push(text(&meta)?),
                "default" => {
                    this.has_default = true;
                    skip_value(&meta)?;
                }
                "skip" | "skip_deserializing" => this.is_skipped = true,
                "flatten" => {
                    return Err(
                        meta.error("`flatten` is not supported: write the fields out, or give them a name")
                    );
                }
                "with" | "deserialize_with" if this.constraints.shape.is_none() => {
                    let message =
                        "say what the JSON looks like: `#[config(schema = r#\"{\"type\":\"string\"}\"#)]`";
                    return Err(meta.error(message));
                }
                _ => skip_value(&meta)?,
            }
            Ok(())
        })?;
        Ok(this)
    }
}

/// What a field's value must be beyond its type.
#[derive(Default)]
pub(super) struct Constraints {
    /// The schema to take instead of the type's, without braces.
    pub(super) shape: Option<String>,
    pub(super) minimum: Option<String>,
    pub(super) maximum: Option<String>,
    others: Vec<String>,
    examples: Vec<String>,
}

impl Constraints {
    fn of(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut this = Self::default();
        for_each(attributes, "config", |meta| {
            match name(&meta).as_str() {
                "schema" => this.shape = Some(braceless(&meta)?),
                "minimum" => this.minimum = Some(number(&meta)?),
                "maximum" => this.maximum = Some(number(&meta)?),
                "exclusive_minimum" => this.add("exclusiveMinimum", &number(&meta)?),
                "exclusive_maximum" => this.add("exclusiveMaximum", &number(&meta)?),
                "min_length" => this.add("minLength", &number(&meta)?),
                "max_length" => this.add("maxLength", &number(&meta)?),
                "min_items" => this.add("minItems", &number(&meta)?),
                "max_items" => this.add("maxItems", &number(&meta)?),
                "pattern" => this.add("pattern", &json::string(&text(&meta)?)),
                "default" => this.add("default", &literal(&meta)?),
                "example" => this.examples.push(literal(&meta)?),
                _ => {
                    return Err(meta.error(
                        "`config` knows minimum, maximum, exclusive_minimum, exclusive_maximum, min_length, \
                         max_length, min_items, max_items, pattern, default, example and schema",
                    ));
                }
            }
            Ok(())
        })?;
        Ok(this)
    }

    fn add(&mut self, keyword: &str, value: &str) {
        self.others.push(format!(",\"{keyword}\":{value}"));
    }

    /// The members of the schema that say so.
    pub(super) fn members(&self) -> String {
        let mut members = String::new();
        for (keyword, bound) in [("minimum", &self.minimum), ("maximum", &self.maximum)] {
            if let Some(bound) = bound {
                members.push_str(&format!(",\"{keyword}\":{bound}"));
            }
        }
        members.extend(self.others.iter().map(String::as_str));
        if !self.examples.is_empty() {
            members.push_str(&format!(",\"examples\":[{}]", self.examples.join(",")));
        }
        members
    }
}

/// The text of the doc comment: lines of a paragraph are joined by a space.
pub(super) fn description(attributes: &[Attribute]) -> Option<String> {
    let mut paragraphs = vec![String::new()];
    for attribute in attributes {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        let (true, Expr::Lit(ExprLit { lit: Lit::Str(line), .. })) = (pair.path.is_ident("doc"), &pair.value)
        else {
            continue;
        };
        for line in line.value().lines().map(str::trim).chain(line.value().is_empty().then_some("")) {
            let last = paragraphs.last_mut().expect("there is always one");
            match (line.is_empty(), last.is_empty()) {
                (true, true) => {}
                (true, false) => paragraphs.push(String::new()),
                (false, true) => last.push_str(line),
                (false, false) => {
                    last.push(' ');
                    last.push_str(line);
                }
            }
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    (!paragraphs.is_empty()).then(|| paragraphs.join("\n\n"))
}

fn for_each(
    attributes: &[Attribute],
    path: &str,
    mut take: impl FnMut(ParseNestedMeta<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident(path))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut take))
}

fn name(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(ToString::to_string).unwrap_or_default()
}

fn unsupported(meta: &ParseNestedMeta<'_>) -> syn::Error {
    meta.error(format!("`{}` is not supported by the derive of `Config`", name(meta)))
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// Reads over the value of an attribute that does not change the schema.
fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(token::Paren) {
        let content;
        syn::parenthesized!(content in meta.input);
        content.parse::<proc_macro2::TokenStream>()?;
    }
    Ok(())
}

/// `rename = "…"`, or `rename(deserialize = "…")`; none if only the other direction is named.
fn rename(meta: &ParseNestedMeta<'_>) -> syn::Result<Option<String>> {
    if !meta.input.peek(token::Paren) {
        return text(meta).map(Some);
    }
    let mut deserialize = None;
    meta.parse_nested_meta(|inner| {
        let value = text(&inner)?;
        if inner.path.is_ident("deserialize") {
            deserialize = Some(value);
        }
        Ok(())
    })?;
    Ok(deserialize)
}

fn rule(meta: &ParseNestedMeta<'_>) -> syn::Result<Rule> {
    let Some(name) = rename(meta)? else { return Ok(Rule::AsWritten) };
    Rule::named(&name).ok_or_else(|| meta.error(format!("`{name}` is no spelling that serde knows")))
}

/// A literal as JSON.
fn literal(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    to_json(&meta.value()?.parse()?)
}

fn number(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let json = literal(meta)?;
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        Ok(json)
    } else {
        Err(meta.error("a number is expected"))
    }
}

fn to_json(value: &Expr) -> syn::Result<String> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(json::string(&text.value())),
        Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. }) => Ok(flag.value.to_string()),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => Ok(number.base10_digits().to_owned()),
        // Rust allows `1.`, JSON does not.
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => {
            let digits = number.base10_digits();
            Ok(if digits.ends_with('.') { format!("{digits}0") } else { digits.to_owned() })
        }
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => Ok(format!("-{}", to_json(expr)?)),
        Expr::Group(group) => to_json(&group.expr),
        other => Err(syn::Error::new_spanned(
            other,
            "a literal is expected: a string, a number, `true` or `false`",
        )),
    }
}

/// The inside of a JSON object that is written as a string.
fn braceless(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let json = text(meta)?;
    let inside = json.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map(str::trim);
    match inside {
        Some(inside) if !inside.is_empty() => Ok(inside.to_owned()),
        _ => Err(meta.error("a schema is a JSON object with at least one member")),
    }
}

//! `#[derive(Config)]`: the JSON Schema of a configuration type, as pieces that `witgate_sdk` joins at compile time.
//!
//! A schema is written without its outer braces, so that a field can add its own words to those of its type.

mod attributes;
mod case;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DeriveInput, Field, Fields, Type, Variant};

use crate::json;
use attributes::{
    Constraints, ContainerAttributes, FieldAttributes, Tagging, VariantAttributes, description,
};

/// Writes the implementations of `Schema` and `Config`.
pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "a configuration type has no generic parameters: write the types in its fields";
        return Err(syn::Error::new_spanned(&input.generics, message));
    }
    let container = ContainerAttributes::of(&input.attrs)?;
    let schema = match &input.data {
        Data::Struct(data) => of_struct(input, &data.fields, &container)?,
        Data::Enum(data) => of_enum(input, data, &container)?,
        Data::Union(_) => {
            let message = "a union cannot be a configuration: write a struct or an enum";
            return Err(syn::Error::new_spanned(&input.ident, message));
        }
    };
    let name = &input.ident;
    let consts = schema.consts();
    Ok(quote! {
        impl ::witgate_sdk::Schema for #name {
            #consts
        }
        impl ::witgate_sdk::Config for #name {
            fn from_json(json: &str) -> ::core::result::Result<Self, ::std::string::String> {
                ::witgate_sdk::glue::parse(json)
            }
        }
    })
}

/// The schema of a type, without braces.
struct Schema {
    shape: Pieces,
    description: Option<String>,
    /// The field of a newtype, whose bounds and, failing its own, whose description it has.
    inner: Option<Type>,
}

impl Schema {
    fn consts(&self) -> TokenStream {
        let shape = self.shape.tokens();
        let inner =
            |name: TokenStream| {
                self.inner.as_ref().map(|ty| quote! {
                const #name: &'static [::witgate_sdk::glue::Part] = <#ty as ::witgate_sdk::Schema>::#name;
            })
            };
        let (minimum, maximum) = (inner(quote!(MINIMUM)), inner(quote!(MAXIMUM)));
        let description = match &self.description {
            Some(text) => {
                let text = description_member(text);
                Some(quote! {
                    const DESCRIPTION: &'static [::witgate_sdk::glue::Part] =
                        &[::witgate_sdk::glue::Part::Text(#text)];
                })
            }
            None => inner(quote!(DESCRIPTION)),
        };
        quote! {
            const SHAPE: &'static [::witgate_sdk::glue::Part] = #shape;
            #minimum
            #maximum
            #description
        }
    }
}

fn description_member(text: &str) -> String {
    format!(",\"description\":{}", json::string(text))
}

fn of_struct(input: &DeriveInput, fields: &Fields, container: &ContainerAttributes) -> syn::Result<Schema> {
    let description = description(&input.attrs);
    match fields {
        Fields::Named(named) if container.is_transparent => {
            match named.named.iter().collect::<Vec<_>>()[..] {
                [field] => newtype(field, description),
                _ => Err(syn::Error::new_spanned(&input.ident, "a transparent struct has exactly one field")),
            }
        }
        Fields::Named(_) => {
            let object = Object {
                fields,
                rename_all: container.rename_all,
                has_defaults: container.has_defaults,
                denies_unknown: container.denies_unknown,
                tag: None,
            };
            Ok(Schema { shape: object.shape()?, description, inner: None })
        }
        Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => newtype(&unnamed.unnamed[0], description),
        Fields::Unnamed(_) => Err(syn::Error::new_spanned(
            &input.ident,
            "a configuration names its fields: write `{ name: Type }`",
        )),
        Fields::Unit => {
            let message = "a unit struct has no JSON object: write `{}` after its name, or use `()` for no configuration";
            Err(syn::Error::new_spanned(&input.ident, message))
        }
    }
}

fn newtype(field: &Field, description: Option<String>) -> syn::Result<Schema> {
    let attributes = FieldAttributes::of(field)?;
    let mut shape = Pieces::default();
    match &attributes.constraints.shape {
        Some(text) => {
            shape.text(text);
            Ok(Schema { shape, description, inner: None })
        }
        None => {
            let ty = &field.ty;
            shape.tokens_of(quote!(<#ty as ::witgate_sdk::Schema>::SHAPE));
            shape.text(&attributes.constraints.members());
            let has_bounds =
                attributes.constraints.minimum.is_some() || attributes.constraints.maximum.is_some();
            Ok(Schema { shape, description, inner: (!has_bounds).then(|| ty.clone()) })
        }
    }
}

fn of_enum(input: &DeriveInput, data: &DataEnum, container: &ContainerAttributes) -> syn::Result<Schema> {
    let variants = data
        .variants
        .iter()
        .map(|variant| Ok((variant, VariantAttributes::of(variant)?)))
        .collect::<syn::Result<Vec<_>>>()?;
    let variants: Vec<_> = variants.into_iter().filter(|(_, attributes)| !attributes.is_skipped).collect();
    if variants.is_empty() {
        return Err(syn::Error::new_spanned(&input.ident, "an enum without variants has no value"));
    }
    let description = description(&input.attrs);
    let alternatives = Alternatives { container, variants: &variants };
    let is_plain = variants.iter().all(|(variant, _)| matches!(variant.fields, Fields::Unit));
    match (&container.tagging, is_plain) {
        (Tagging::External, true) => {
            let shape = Pieces::of_text(&alternatives.names_shape());
            Ok(Schema { shape, description: alternatives.names_description(description), inner: None })
        }
        (Tagging::External, false) => alternatives.schema("oneOf", description, Alternatives::external),
        (Tagging::Internal { .. } | Tagging::Adjacent { .. }, _) => {
            alternatives.schema("oneOf", description, Alternatives::tagged)
        }
        (Tagging::Untagged, _) => alternatives.schema("anyOf", description, Alternatives::untagged),
    }
}

/// The variants of an enum.
struct Alternatives<'a> {
    container: &'a ContainerAttributes,
    variants: &'a [(&'a Variant, VariantAttributes)],
}

impl Alternatives<'_> {
    fn schema(
        &self,
        keyword: &str,
        description: Option<String>,
        alternatives: impl Fn(&Self) -> syn::Result<Vec<Pieces>>,
    ) -> syn::Result<Schema> {
        let mut shape = Pieces::of_text(&format!("\"{keyword}\":["));
        for (i, alternative) in alternatives(self)?.into_iter().enumerate() {
            shape.text(if i == 0 { "{" } else { ",{" });
            shape.append(alternative);
            shape.text("}");
        }
        shape.text("]");
        Ok(Schema { shape, description, inner: None })
    }

    fn name(&self, variant: &Variant, attributes: &VariantAttributes) -> String {
        attributes
            .name
            .clone()
            .unwrap_or_else(|| self.container.rename_all.variant(&variant.ident.to_string()))
    }

    fn units(&self) -> impl Iterator<Item = &(&Variant, VariantAttributes)> {
        self.variants.iter().filter(|(variant, _)| matches!(variant.fields, Fields::Unit))
    }

    /// The strings that stand for the variants without fields.
    fn names_shape(&self) -> String {
        if self.units().any(|(_, attributes)| attributes.is_other) {
            return "\"type\":\"string\"".to_owned();
        }
        let names: Vec<String> = self
            .units()
            .flat_map(|(variant, attributes)| {
                [self.name(variant, attributes)].into_iter().chain(attributes.aliases.iter().cloned())
            })
            .map(|name| json::string(&name))
            .collect();
        format!("\"type\":\"string\",\"enum\":[{}]", names.join(","))
    }

    /// The enum's description, and a line for each variant that has one.
    fn names_description(&self, of_enum: Option<String>) -> Option<String> {
        let lines: Vec<String> = self
            .units()
            .filter_map(|(variant, attributes)| {
                let text = description(&variant.attrs)?;
                Some(format!("`{}`: {text}", self.name(variant, attributes)))
            })
            .collect();
        let paragraphs: Vec<String> =
            of_enum.into_iter().chain((!lines.is_empty()).then(|| lines.join("\n"))).collect();
        (!paragraphs.is_empty()).then(|| paragraphs.join("\n\n"))
    }

    /// `"name"`, or `{"name": …}`.
    fn external(&self) -> syn::Result<Vec<Pieces>> {
        let mut alternatives = Vec::new();
        if self.units().next().is_some() {
            let mut names = Pieces::of_text(&self.names_shape());
            names.describe(self.names_description(None));
            alternatives.push(names);
        }
        for (variant, attributes) in self.variants {
            if matches!(variant.fields, Fields::Unit) {
                continue;
            }
            let name = json::string(&self.name(variant, attributes));
            let mut pieces = Pieces::of_text(&format!("\"type\":\"object\",\"properties\":{{{name}:{{"));
            pieces.append(self.content(variant, attributes)?);
            pieces.text(&format!("}}}},\"required\":[{name}],\"additionalProperties\":false"));
            pieces.describe(description(&variant.attrs));
            alternatives.push(pieces);
        }
        Ok(alternatives)
    }

    /// `{"tag": "name", …}`, or `{"tag": "name", "content": …}`.
    fn tagged(&self) -> syn::Result<Vec<Pieces>> {
        let mut alternatives = Vec::new();
        for (variant, attributes) in self.variants {
            let name = self.name(variant, attributes);
            let mut pieces = match &self.container.tagging {
                Tagging::Adjacent { tag, content } => {
                    self.adjacent(tag, content, &name, variant, attributes)?
                }
                Tagging::Internal { tag } => self.internal(tag, &name, variant, attributes)?,
                Tagging::External | Tagging::Untagged => unreachable!("only tagged enums come here"),
            };
            pieces.describe(description(&variant.attrs));
            alternatives.push(pieces);
        }
        Ok(alternatives)
    }

    fn internal(
        &self,
        tag: &str,
        name: &str,
        variant: &Variant,
        attributes: &VariantAttributes,
    ) -> syn::Result<Pieces> {
        if let Fields::Unnamed(_) = variant.fields {
            let message = "a variant of an enum with a tag names its fields: write `Variant { name: Type }`";
            return Err(syn::Error::new_spanned(variant, message));
        }
        self.object(variant, attributes, Some((tag, name))).shape()
    }

    fn adjacent(
        &self,
        tag: &str,
        content: &str,
        name: &str,
        variant: &Variant,
        attributes: &VariantAttributes,
    ) -> syn::Result<Pieces> {
        let (tag, content, name) = (json::string(tag), json::string(content), json::string(name));
        let mut pieces =
            Pieces::of_text(&format!("\"type\":\"object\",\"properties\":{{{tag}:{{\"const\":{name}}}"));
        if matches!(variant.fields, Fields::Unit) {
            pieces.text(&format!("}},\"required\":[{tag}]"));
        } else {
            pieces.text(&format!(",{content}:{{"));
            pieces.append(self.content(variant, attributes)?);
            pieces.text(&format!("}}}},\"required\":[{tag},{content}]"));
        }
        pieces.text(",\"additionalProperties\":false");
        Ok(pieces)
    }

    fn untagged(&self) -> syn::Result<Vec<Pieces>> {
        self.variants
            .iter()
            .map(|(variant, attributes)| {
                let mut pieces = self.content(variant, attributes)?;
                pieces.describe(description(&variant.attrs));
                Ok(pieces)
            })
            .collect()
    }

    /// What a variant holds.
    fn content(&self, variant: &Variant, attributes: &VariantAttributes) -> syn::Result<Pieces> {
        match &variant.fields {
            Fields::Named(_) => self.object(variant, attributes, None).shape(),
            Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => {
                FieldAttributes::of(&unnamed.unnamed[0])?.schema(&unnamed.unnamed[0].ty)
            }
            Fields::Unnamed(_) => {
                let message = "a variant with several fields names them: write `Variant { name: Type }`";
                Err(syn::Error::new_spanned(variant, message))
            }
            Fields::Unit => Ok(Pieces::of_text("\"type\":\"null\"")),
        }
    }

    fn object<'b>(
        &self,
        variant: &'b Variant,
        attributes: &VariantAttributes,
        tag: Option<(&'b str, &'b str)>,
    ) -> Object<'b> {
        Object {
            fields: &variant.fields,
            rename_all: attributes.rename_all.or(self.container.rename_all_fields),
            has_defaults: false,
            denies_unknown: self.container.denies_unknown,
            tag,
        }
    }
}

/// Named fields.
struct Object<'a> {
    fields: &'a Fields,
    rename_all: case::Rule,
    /// Every field that is absent has a default.
    has_defaults: bool,
    denies_unknown: bool,
    /// A member that has one value.
    tag: Option<(&'a str, &'a str)>,
}

impl Object<'_> {
    fn shape(&self) -> syn::Result<Pieces> {
        let mut required = Vec::new();
        let mut properties = Pieces::default();
        if let Some((tag, name)) = self.tag {
            let tag = json::string(tag);
            properties.text(&format!("{tag}:{{\"const\":{}}}", json::string(name)));
            required.push(tag);
        }
        for field in self.fields {
            self.property(field, &mut properties, &mut required)?;
        }
        let mut shape = Pieces::of_text("\"type\":\"object\",\"properties\":{");
        shape.append(properties);
        shape.text("}");
        if !required.is_empty() {
            shape.text(&format!(",\"required\":[{}]", required.join(",")));
        }
        if self.denies_unknown {
            shape.text(",\"additionalProperties\":false");
        }
        Ok(shape)
    }

    fn property(
        &self,
        field: &Field,
        properties: &mut Pieces,
        required: &mut Vec<String>,
    ) -> syn::Result<()> {
        let attributes = FieldAttributes::of(field)?;
        if attributes.is_skipped {
            return Ok(());
        }
        let ident = field.ident.as_ref().expect("only named fields come here").to_string();
        let ident = ident.strip_prefix("r#").unwrap_or(&ident);
        let name = json::string(&attributes.name.clone().unwrap_or_else(|| self.rename_all.field(ident)));
        let aliases = attributes.aliases.iter().map(|alias| json::string(alias));
        for name in [name.clone()].into_iter().chain(aliases) {
            properties.text(if properties.is_empty() { "" } else { "," });
            properties.text(&format!("{name}:{{"));
            properties.append(attributes.schema(&field.ty)?);
            properties.text("}");
        }
        // With an alias either name will do, which `required` cannot say.
        let is_optional = self.has_defaults
            || attributes.has_default
            || is_option(&field.ty)
            || !attributes.aliases.is_empty();
        if !is_optional {
            required.push(name);
        }
        Ok(())
    }
}

impl FieldAttributes {
    /// The schema of the field: its type's, with the field's own description and constraints before the type's.
    fn schema(&self, ty: &Type) -> syn::Result<Pieces> {
        let mut pieces = Pieces::default();
        let Constraints { shape, minimum, maximum, .. } = &self.constraints;
        match shape {
            Some(shape) => pieces.text(shape),
            None => {
                pieces.tokens_of(quote!(<#ty as ::witgate_sdk::Schema>::SHAPE));
                if minimum.is_none() {
                    pieces.tokens_of(quote!(<#ty as ::witgate_sdk::Schema>::MINIMUM));
                }
                if maximum.is_none() {
                    pieces.tokens_of(quote!(<#ty as ::witgate_sdk::Schema>::MAXIMUM));
                }
            }
        }
        pieces.text(&self.constraints.members());
        match (&self.description, shape) {
            (Some(_), _) => pieces.describe(self.description.clone()),
            (None, None) => pieces.tokens_of(quote!(<#ty as ::witgate_sdk::Schema>::DESCRIPTION)),
            (None, Some(_)) => {}
        }
        Ok(pieces)
    }
}

/// Says whether serde takes the field's absence for `None`, by the same rule: the name of the type.
fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}

/// Text and constants in order.
#[derive(Default)]
struct Pieces(Vec<Piece>);

enum Piece {
    Text(String),
    Tokens(TokenStream),
}

impl Pieces {
    fn of_text(text: &str) -> Self {
        Self(vec![Piece::Text(text.to_owned())])
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    fn tokens_of(&mut self, tokens: TokenStream) {
        self.0.push(Piece::Tokens(tokens));
    }

    fn append(&mut self, other: Self) {
        for piece in other.0 {
            match piece {
                Piece::Text(text) => self.text(&text),
                Piece::Tokens(tokens) => self.tokens_of(tokens),
            }
        }
    }

    fn describe(&mut self, description: Option<String>) {
        if let Some(text) = description {
            self.text(&description_member(&text));
        }
    }

    fn tokens(&self) -> TokenStream {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => quote!(::witgate_sdk::glue::Part::Text(#text)),
            Piece::Tokens(tokens) => quote!(::witgate_sdk::glue::Part::Nested(#tokens)),
        });
        quote!(&[#(#pieces),*])
    }
}

#[cfg(test)]
mod tests {
    use super::derive;

    #[track_caller]
    fn check_error(input: &str, expected: &str) {
        let error = derive(&syn::parse_str(input).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_shape_that_is_not_supported_says_what_to_write() {
        check_error(
            "struct A<T>(T);",
            "a configuration type has no generic parameters: write the types in its fields",
        );
        check_error("union A { a: u8 }", "a union cannot be a configuration: write a struct or an enum");
        check_error("struct A(u8, u8);", "a configuration names its fields: write `{ name: Type }`");
        check_error(
            "struct A;",
            "a unit struct has no JSON object: write `{}` after its name, or use `()` for no configuration",
        );
        check_error("enum A {}", "an enum without variants has no value");
        check_error(
            "enum A { B(u8, u8) }",
            "a variant with several fields names them: write `Variant { name: Type }`",
        );
        check_error(
            "#[serde(tag = \"t\")] enum A { B(C) }",
            "a variant of an enum with a tag names its fields: write `Variant { name: Type }`",
        );
    }

    #[test]
    fn an_attribute_that_is_not_supported_says_what_to_write() {
        check_error(
            "struct A { #[serde(flatten)] b: B }",
            "`flatten` is not supported: write the fields out, or give them a name",
        );
        check_error(
            "struct A { #[serde(with = \"b\")] b: B }",
            "say what the JSON looks like: `#[config(schema = r#\"{\"type\":\"string\"}\"#)]`",
        );
        check_error(
            "#[serde(try_from = \"B\")] struct A { b: B }",
            "the schema cannot see through a conversion: derive `Config` for the type that is read",
        );
        check_error(
            "#[serde(rename_all = \"Title Case\")] struct A { b: B }",
            "`Title Case` is no spelling that serde knows",
        );
        check_error("#[config(minimum = 1)] struct A { b: B }", "`config` is an attribute of fields");
        check_error("struct A { #[config(minimum = \"1\")] b: u8 }", "a number is expected");
        check_error(
            "struct A { #[config(example = [1])] b: u8 }",
            "a literal is expected: a string, a number, `true` or `false`",
        );
        check_error(
            "struct A { #[config(schema = \"{}\")] b: u8 }",
            "a schema is a JSON object with at least one member",
        );
        check_error(
            "struct A { #[config(min = 1)] b: u8 }",
            "`config` knows minimum, maximum, exclusive_minimum, exclusive_maximum, min_length, max_length, \
             min_items, max_items, pattern, default, example and schema",
        );
    }

    #[test]
    fn attributes_that_do_not_change_the_schema_are_passed_over() {
        let input = "
            #[serde(crate = \"serde\", bound(deserialize = \"\"), default = \"a::b\")]
            struct A {
                #[serde(rename(serialize = \"x\", deserialize = \"y\"), skip_serializing_if = \"Option::is_none\")]
                b: Option<u8>,
            }";
        let tokens = derive(&syn::parse_str(input).unwrap()).unwrap().to_string();
        assert!(tokens.contains(r#"\"y\":{"#), "{tokens}");
    }
}

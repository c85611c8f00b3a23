//! What a plugin's configuration can be made of, and its JSON Schema.

#[cfg(feature = "json")]
pub(crate) mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::glue::Part;

/// A type that a plugin can be configured with: derive it beside `serde::Deserialize`.
///
/// The derive turns the type into a JSON Schema at compile time, which rides in the component, so that the host finds
/// mistakes with their path before the plugin runs, and `witgate plugin inspect` shows what can be written. Doc comments
/// become descriptions. Of serde's attributes it knows `default`, `rename`, `rename_all`, `rename_all_fields`, `alias`,
/// `deny_unknown_fields`, `skip`, `transparent`, `tag`, `content`, `untagged` and `other`; `flatten` and conversions are
/// compile errors. A field whose type is `Option` may be absent; to JSON `null` the schema says no.
///
/// `#[config(…)]` on a field says what its type cannot: `minimum`, `maximum`, `exclusive_minimum`, `exclusive_maximum`,
/// `min_length`, `max_length`, `pattern`, `min_items`, `max_items`, `default`, `example` (may be repeated), or with
/// `schema = r#"{…}"#` the whole schema of the field. The host checks them; natively nobody does, so check in
/// [`Plugin::new`](crate::Plugin::new) what the plugin relies on.
///
/// ```
/// use std::collections::BTreeMap;
/// use witgate_sdk::Config;
///
/// /// Replaces words.
/// #[derive(Config, serde::Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Settings {
///     /// What is replaced by what.
///     words: BTreeMap<String, String>,
///     /// Where to look.
///     place: Place,
///     /// How many words are replaced at most.
///     #[config(minimum = 1, example = 100)]
///     replacements_max: u32,
/// }
///
/// #[derive(Config, serde::Deserialize)]
/// #[serde(rename_all = "snake_case")]
/// enum Place {
///     /// In the answer.
///     Content,
///     /// In the thinking.
///     Reasoning,
/// }
///
/// impl Default for Settings {
///     fn default() -> Self {
///         Self { words: BTreeMap::new(), place: Place::Content, replacements_max: 1000 }
///     }
/// }
///
/// let settings = Settings::from_json(r#"{"place": "reasoning"}"#).unwrap();
/// assert!(matches!(settings.place, Place::Reasoning));
/// ```
pub trait Config: Schema + Sized {
    /// Reads the configuration from JSON. Nothing at all and `null` count as `{}`.
    ///
    /// # Errors
    ///
    /// Names the field and says what is wrong with it.
    fn from_json(json: &str) -> Result<Self, String>;
}

/// A type that a configuration can contain; derived together with [`Config`].
///
/// The constants are members of a JSON object without its braces, in pieces that are joined at compile time.
pub trait Schema {
    /// The keywords of the type: at least one, the first without a comma.
    #[doc(hidden)]
    const SHAPE: &'static [Part];
    /// The least value, which a field's own attribute replaces; with a comma in front, or nothing.
    #[doc(hidden)]
    const MINIMUM: &'static [Part] = &[];
    /// The greatest value, likewise.
    #[doc(hidden)]
    const MAXIMUM: &'static [Part] = &[];
    /// The type's doc comment, which a field's own replaces; likewise.
    #[doc(hidden)]
    const DESCRIPTION: &'static [Part] = &[];
}

impl Schema for () {
    const SHAPE: &'static [Part] = &[Part::Text(r#""type":"object","additionalProperties":false"#)];
}

impl Config for () {
    fn from_json(json: &str) -> Result<Self, String> {
        let is_blank = |character: char| matches!(character, ' ' | '\t' | '\n' | '\r');
        let inside = match json.trim_matches(is_blank) {
            "" | "null" => return Ok(()),
            json => json.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')),
        };
        match inside {
            Some(inside) if inside.trim_matches(is_blank).is_empty() => Ok(()),
            _ => Err("the plugin has no configuration: remove `config`".to_owned()),
        }
    }
}

/// Writes the schemas of types that have a fixed one.
macro_rules! shapes {
    ($($ty:ty: $shape:literal $(, $minimum:literal, $maximum:literal)?;)*) => {$(
        impl Schema for $ty {
            const SHAPE: &'static [Part] = &[Part::Text($shape)];
            $(
                const MINIMUM: &'static [Part] = &[Part::Text($minimum)];
                const MAXIMUM: &'static [Part] = &[Part::Text($maximum)];
            )?
        }
    )*};
}

shapes! {
    bool: r#""type":"boolean""#;
    String: r#""type":"string""#;
    char: r#""type":"string","minLength":1,"maxLength":1"#;
    f32: r#""type":"number""#;
    f64: r#""type":"number""#;
    u8: r#""type":"integer""#, r#","minimum":0"#, r#","maximum":255"#;
    u16: r#""type":"integer""#, r#","minimum":0"#, r#","maximum":65535"#;
    u32: r#""type":"integer""#, r#","minimum":0"#, r#","maximum":4294967295"#;
    u64: r#""type":"integer""#, r#","minimum":0"#, "";
    // A component's memory has 32 bits.
    usize: r#""type":"integer""#, r#","minimum":0"#, r#","maximum":4294967295"#;
    i8: r#""type":"integer""#, r#","minimum":-128"#, r#","maximum":127"#;
    i16: r#""type":"integer""#, r#","minimum":-32768"#, r#","maximum":32767"#;
    i32: r#""type":"integer""#, r#","minimum":-2147483648"#, r#","maximum":2147483647"#;
    i64: r#""type":"integer""#, "", "";
    isize: r#""type":"integer""#, r#","minimum":-2147483648"#, r#","maximum":2147483647"#;
}

#[cfg(feature = "json")]
shapes! {
    serde_json::Value: r#""type":["object","array","string","number","boolean","null"]"#;
    serde_json::Map<String, serde_json::Value>: r#""type":"object""#;
}

/// Passes the schema of the inner type on.
macro_rules! same_as_inner {
    ($($ty:ty),*) => {$(
        impl<T: Schema> Schema for $ty {
            const SHAPE: &'static [Part] = T::SHAPE;
            const MINIMUM: &'static [Part] = T::MINIMUM;
            const MAXIMUM: &'static [Part] = T::MAXIMUM;
            const DESCRIPTION: &'static [Part] = T::DESCRIPTION;
        }
    )*};
}

same_as_inner!(Option<T>, Box<T>);

/// The schema of an element or a value, with its braces.
macro_rules! braced {
    ($before:literal, $ty:ty, $after:literal) => {
        &[
            Part::Text($before),
            Part::Nested(<$ty>::SHAPE),
            Part::Nested(<$ty>::MINIMUM),
            Part::Nested(<$ty>::MAXIMUM),
            Part::Nested(<$ty>::DESCRIPTION),
            Part::Text($after),
        ]
    };
}

impl<T: Schema> Schema for Vec<T> {
    const SHAPE: &'static [Part] = braced!(r#""type":"array","items":{"#, T, "}");
}

impl<T: Schema> Schema for BTreeSet<T> {
    const SHAPE: &'static [Part] = Vec::<T>::SHAPE;
}

impl<T: Schema> Schema for HashSet<T> {
    const SHAPE: &'static [Part] = Vec::<T>::SHAPE;
}

impl<T: Schema> Schema for BTreeMap<String, T> {
    const SHAPE: &'static [Part] = braced!(r#""type":"object","additionalProperties":{"#, T, "}");
}

impl<T: Schema> Schema for HashMap<String, T> {
    const SHAPE: &'static [Part] = BTreeMap::<String, T>::SHAPE;
}

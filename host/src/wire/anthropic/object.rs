//! JSON objects member by member: read so that what is not asked for is kept, and written by hand.

use std::borrow::{BorrowMut, Cow};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::chat::{CacheControl, Extra, Raw};
use crate::error::{Error, Result};
use crate::wire::json::Writer;

/// The members of an object, in order; what is taken out of them is not among the rest.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Names that were asked for: of a name that is there twice the last one counts, and the other is no rest.
    taken: Vec<&'static str>,
}

impl<'a> Members<'a> {
    /// Reads an object; none if the text is no object.
    pub(super) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Takes a member out; none if it is not there, or null.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.taken.push(name);
        let at = self.members.iter().rposition(|(own, _)| own == name)?;
        let (_, value) = self.members.remove(at);
        Some(value).filter(|value| value.get() != "null")
    }

    /// Whether a member is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(own, _)| own == name)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<String>> {
        self.value(name, "a string")
    }

    /// Takes a text that has to be there.
    ///
    /// # Errors
    /// It is not there, or none.
    pub(super) fn required_string(&mut self, name: &'static str) -> Result<String> {
        self.string(name)?.ok_or_else(|| missing(name))
    }

    /// Takes a number that counts something; `4.0` is one, too.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn count(&mut self, name: &'static str) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        if let Ok(count) = value.get().parse() {
            return Ok(Some(count));
        }
        let whole = value.get().parse::<f64>().ok().filter(|float| float.fract() == 0.0);
        // Above 2^53 a float says no number exactly.
        let whole = whole.filter(|float| (0.0..9_007_199_254_740_992.0).contains(float));
        whole.map(|float| Some(float as u64)).ok_or_else(|| wrong(name, "a whole number, 0 or more"))
    }

    /// Takes a number.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn float(&mut self, name: &'static str) -> Result<Option<f64>> {
        self.value(name, "a number")
    }

    /// Takes a truth value.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>> {
        self.value(name, "true or false")
    }

    /// Takes an object.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Self>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Self::read(value.get()).map(Some).ok_or_else(|| wrong(name, "an object"))
    }

    /// Takes a list.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Option<Vec<&'a RawValue>>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|_| wrong(name, "a list"))
    }

    /// Takes a mark for the cache.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn cache_control(&mut self) -> Result<Option<CacheControl>> {
        let Some(mut mark) = self.object("cache_control")? else { return Ok(None) };
        let ttl = mark.string("ttl").map_err(|error| within("cache_control", error))?;
        Ok(Some(CacheControl { ttl }))
    }

    /// What was not taken, without nulls.
    pub(super) fn rest(self) -> Extra {
        let Self { members, taken } = self;
        let rest = members
            .into_iter()
            .filter(|(name, value)| value.get() != "null" && !taken.iter().any(|taken| name == taken));
        Extra(rest.map(|(name, value)| (name.into_owned(), Raw::of(&value))).collect())
    }

    fn value<T: Deserialize<'a>>(&mut self, name: &'static str, what: &str) -> Result<Option<T>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|_| wrong(name, what))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members { members, taken: Vec::new() })
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Writes a mark for the cache, if there is one.
pub(super) fn write_cache_control<O: BorrowMut<Vec<u8>>>(
    mark: Option<&CacheControl>,
    writer: &mut Writer<O>,
) {
    let Some(mark) = mark else { return };
    writer.object("cache_control", |writer| {
        writer.string("type", "ephemeral");
        writer.string_if("ttl", mark.ttl.as_deref());
    });
}

/// The error of a member that has to be there.
pub(super) fn missing(name: &'static str) -> Error {
    Error::invalid(name, format!("`{name}` is missing"))
}

/// The error of a member of another type.
pub(super) fn wrong(name: &'static str, what: &str) -> Error {
    Error::invalid(name, format!("`{name}` must be {what}"))
}

/// An error about a member of `place`, named from there.
pub(super) fn within(place: impl fmt::Display, error: Error) -> Error {
    let param = match &error.param {
        Some(param) if !param.is_empty() => format!("{place}.{param}"),
        _ => place.to_string(),
    };
    Error { param: Some(param.into()), ..error }
}

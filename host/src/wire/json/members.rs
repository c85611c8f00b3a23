//! The members of a JSON object, as they were written, whatever they are.

use std::borrow::Cow;
use std::cell::Cell;

use super::{Scanner, SyntaxError};
use crate::chat::{Extra, Raw};

/// The members of an object. What has the wrong type is none, as befits answers; [`Object`](super::Object) minds it.
///
/// Of several of a name the last one counts, as most readers have it; what is null is not there.
#[derive(Clone, Debug, Default)]
pub struct Members<'a>(Vec<Member<'a>>);

#[derive(Clone, Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    json: &'a str,
    /// Whether it was asked for: then it is not among the rest.
    is_read: Cell<bool>,
}

impl<'a> Members<'a> {
    /// Reads an object; none if the text is another thing.
    pub fn of(json: &'a str) -> Option<Self> {
        let mut members = Vec::with_capacity(8);
        let mut scanner = Scanner::over(json);
        let read = scanner.object(|scanner, name| {
            let range = scanner.skip()?;
            let (name, json) = (name.decode(), scanner.slice(range));
            members.push(Member { name, json, is_read: Cell::new(false) });
            Ok(())
        });
        read.and_then(|()| scanner.end()).ok()?;
        Some(Self(members))
    }

    /// The JSON text of a member.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut json = None;
        for member in self.0.iter().filter(|member| member.name == name) {
            member.is_read.set(true);
            json = Some(member.json);
        }
        json.filter(|json| *json != "null")
    }

    /// Whether a member is there; it stays among the rest.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().rfind(|member| member.name == name).is_some_and(|member| member.json != "null")
    }

    /// A member that is a text.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    /// The same as a text of its own.
    pub fn string(&self, name: &str) -> Option<String> {
        self.text(name).map(Cow::into_owned)
    }

    /// A member that is a count.
    pub fn count(&self, name: &str) -> Option<u64> {
        count(self.get(name)?)
    }

    /// A member that is an object.
    pub fn object(&self, name: &str) -> Option<Self> {
        Self::of(self.get(name)?)
    }

    /// The elements of a member that is a list; none if it is not.
    pub fn list(&self, name: &str) -> Vec<&'a str> {
        self.get(name).and_then(elements).unwrap_or_default()
    }

    /// The members that nobody has asked for and that are not of these names.
    pub fn rest(&self, but: &[&str]) -> Extra {
        let rest = self.0.iter().filter(|member| {
            !member.is_read.get() && member.json != "null" && !but.contains(&member.name.as_ref())
        });
        let raw = |member: &Member<'_>| Some((member.name.clone().into_owned(), Raw::new(member.json)?));
        Extra(rest.filter_map(raw).collect())
    }
}

/// The text that a JSON text is.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    Scanner::over(json).string().ok().map(|text| text.decode())
}

/// The count that a JSON text is; some write `12.0`.
pub(super) fn count(json: &str) -> Option<u64> {
    json.parse().ok().or_else(|| {
        let number = json.parse::<f64>().ok().filter(|number| number.fract() == 0.0)?;
        // Above 2^53 a float says no number exactly.
        (0.0..9_007_199_254_740_992.0).contains(&number).then_some(number as u64)
    })
}

/// The elements of the list that a JSON text is.
pub fn elements(json: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    let mut scanner = Scanner::over(json);
    let read = scanner.array(|scanner| {
        let range = scanner.skip()?;
        elements.push(scanner.slice(range));
        Ok::<_, SyntaxError>(())
    });
    read.and_then(|()| scanner.end()).ok()?;
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_count(json: &str, expected: Option<u64>) {
        assert_eq!(count(json), expected, "{json}");
    }

    #[test]
    fn counts_are_whole() {
        check_count("4", Some(4));
        check_count("4.0", Some(4));
        check_count("4.5", None);
        check_count("-1", None);
        check_count("1e30", None);
        check_count("18446744073709551615", Some(u64::MAX));
        check_count("\"4\"", None);
        check_count("NaN", None);
    }

    #[test]
    fn the_last_of_a_name_counts_and_the_rest_was_not_read() {
        let members = Members::of(r#"{"a":1,"b":null,"a":2,"c":3,"d":4}"#).unwrap();
        assert_eq!(members.count("a"), Some(2));
        assert!(members.has("c") && !members.has("b"));
        let rest = members.rest(&["d"]);
        assert_eq!(rest.0.len(), 1);
        assert_eq!((&*rest.0[0].0, rest.0[0].1.get()), ("c", "3"));
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        assert!(Members::of("{} 1").is_none() && Members::of("[]").is_none() && Members::of("{").is_none());
        assert_eq!(elements("[1,[2]]"), Some(vec!["1", "[2]"]));
        assert_eq!(elements("[1,[2]"), None);
    }
}

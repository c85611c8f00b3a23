//! What is made of a value before it is a label.

use crate::settings::Tag;

impl Tag {
    /// The label's value for what its source has; none if there is to be no label.
    pub(crate) fn value(&self, found: Option<String>) -> Option<String> {
        let named = found.filter(|text| !text.is_empty()).and_then(|text| self.named(text));
        named.or_else(|| self.default.clone()).map(|text| cut(text, self.max))
    }

    /// What `bands` or `map` make of a value; a number beyond the last band and what is no number have no name.
    fn named(&self, text: String) -> Option<String> {
        if !self.bands.is_empty() {
            // Not `str::parse`, whose tables would make the component 15 KB larger.
            let number: f64 = serde_json::from_str(&text).ok()?;
            let band = self.bands.iter().find(|band| band.below.is_none_or(|bound| number < bound));
            return band.map(|band| band.value.clone());
        }
        let mapped = self.map.get(&text).or(self.other.as_ref()).cloned();
        Some(mapped.unwrap_or(text))
    }
}

/// Keeps at most `max` bytes, and no half of a character.
fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

/// The text of a JSON value: of a string what it says, of anything else the JSON. `null` has none.
pub(crate) fn text(json: String) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(&json).ok(),
        b'n' => None,
        _ => Some(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Band, Source};

    fn tag() -> Tag {
        Tag {
            name: "t".to_owned(),
            from: Source::Tenant,
            map: [("1".to_owned(), "one".to_owned())].into(),
            other: None,
            bands: Vec::new(),
            default: None,
            max: 8,
        }
    }

    #[track_caller]
    fn check(tag: &Tag, found: Option<&str>, expected: Option<&str>) {
        assert_eq!(tag.value(found.map(str::to_owned)).as_deref(), expected, "{found:?}");
    }

    #[test]
    fn values_are_mapped() {
        let tag = tag();
        check(&tag, Some("1"), Some("one"));
        check(&tag, Some("2"), Some("2"));
        check(&tag, Some(""), None);
        check(&tag, None, None);
        let tag = Tag { other: Some("many".to_owned()), default: Some("none".to_owned()), ..tag };
        check(&tag, Some("2"), Some("many"));
        check(&tag, None, Some("none"));
    }

    #[test]
    fn numbers_fall_into_bands() {
        let band = |below, value: &str| Band { below, value: value.to_owned() };
        let mut tag =
            Tag { map: [].into(), bands: vec![band(Some(10.0), "low"), band(Some(20.0), "mid")], ..tag() };
        check(&tag, Some("9"), Some("low"));
        check(&tag, Some("10"), Some("mid"));
        check(&tag, Some("20"), None);
        check(&tag, Some("x"), None);
        tag.bands.push(band(None, "high"));
        check(&tag, Some("20"), Some("high"));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        check(&tag(), Some("12345678"), Some("12345678"));
        check(&tag(), Some("123456789"), Some("12345678"));
        check(&tag(), Some("1234567é"), Some("1234567"));
    }

    #[test]
    fn json_has_a_text() {
        #[track_caller]
        fn check(json: &str, expected: Option<&str>) {
            assert_eq!(text(json.to_owned()).as_deref(), expected);
        }
        check(r#""a\n\u00e9""#, Some("a\né"));
        check("0.5", Some("0.5"));
        check("[1]", Some("[1]"));
        check("null", None);
        check("", None);
    }
}

//! The keys that a request presents, in its headers and its query.

use std::borrow::Cow;

/// Finds the key in one header's value: all of it, or what follows `Bearer` in `authorization`, whose other schemes are
/// for others.
pub(crate) fn in_header<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    let key = match name {
        "authorization" | "proxy-authorization" => {
            let (scheme, key) = value.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key)?
        }
        _ => value,
    };
    Some(key.trim()).filter(|key| !key.is_empty())
}

/// Finds the key in the query of a path.
pub(crate) fn in_query<'a>(parameter: &str, path: &'a str) -> Option<Cow<'a, str>> {
    let (_, query) = path.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, value)| *name == parameter && !value.is_empty())?;
    Some(percent_decoded(value))
}

/// Replaces `%41` by `A`. What is no such escape, or no UTF-8 after all, is no key of anybody; it stays as it is.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = escaped(rest).unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// The byte that an escape at the beginning stands for, and what comes after it.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, after @ ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some(((digit(*high)? << 4 | digit(*low)?) as u8, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_the_key_and_authorization_names_it() {
        #[track_caller]
        fn check(name: &str, value: &str, key: Option<&str>) {
            assert_eq!(in_header(name, value), key, "{name}: {value}");
        }
        check("x-api-key", " abc ", Some("abc"));
        check("x-api-key", "", None);
        check("x-api-key", "Bearer abc", Some("Bearer abc"));
        check("authorization", "Bearer abc", Some("abc"));
        check("authorization", "bEARER   abc", Some("abc"));
        check("authorization", "Bearer ", None);
        check("authorization", "abc", None);
        check("authorization", "Basic YTpi", None);
    }

    #[test]
    fn a_parameter_of_the_query_is_the_key() {
        #[track_caller]
        fn check(path: &str, key: Option<&str>) {
            assert_eq!(in_query("key", path).as_deref(), key, "{path}");
        }
        check("/v1beta/models?key=abc", Some("abc"));
        check("/?alt=sse&key=abc&x", Some("abc"));
        check("/?key=&key=abc", Some("abc"));
        check("/?key=a%2Fb%2f", Some("a/b/"));
        check("/?key=a%2", Some("a%2"));
        check("/?key=%zz%41", Some("%zzA"));
        check("/?key=%ff", Some("%ff"));
        check("/?monkey=abc", None);
        check("/?key", None);
        check("/key=abc", None);
    }

    proptest! {
        #[test]
        fn every_text_can_be_escaped(key in "\\PC{1,8}") {
            let escaped: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let path = format!("/?key={escaped}");
            let found = in_query("key", &path);
            prop_assert_eq!(found.as_deref(), Some(key.as_str()));
        }

        #[test]
        fn nothing_panics(path in "[/?&=key%41é]{0,24}") {
            let _ = in_query("key", &path);
            let _ = in_header("authorization", &path);
        }
    }
}

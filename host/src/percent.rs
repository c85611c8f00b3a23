//! Percent-encoding: undone as lenient servers do it, and done for a segment of a path.

use std::borrow::Cow;

/// Undoes the percent-encoding of a text; what is no escape stays, and what is not UTF-8 then is replaced.
///
/// Source: RFC 3986, section 2.1.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            decoded.push(high << 4 | low);
            rest = &rest[3..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// A text as one segment of a path; what needs no escape stays, slashes too: names of models have them.
///
/// Source: RFC 3986, section 3.3.
pub(crate) fn encoded(text: &str) -> Cow<'_, str> {
    escaped(text, |byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte))
}

/// A text as the value of a parameter in a query.
///
/// Source: RFC 3986, section 2.3: what is not listed there may be read as something else by one server or another.
pub(crate) fn encoded_value(text: &str) -> Cow<'_, str> {
    escaped(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn escaped(text: &str, is_plain: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if text.bytes().all(&is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

//! OpenAI's list of models: entries are kept as their upstream wrote them.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::{Kind, Scanner, SyntaxError, quote};

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name requests use.
    pub id: String,
    /// The entry as it stands in the list.
    pub raw: Bytes,
}

impl Model {
    /// An entry for a model that only the configuration names.
    pub fn configured(id: &str, owner: &str) -> Self {
        let mut raw = br#"{"id":"#.to_vec();
        quote(id, &mut raw);
        raw.extend_from_slice(br#","object":"model","created":0,"owned_by":"#);
        quote(owner, &mut raw);
        raw.push(b'}');
        Self { id: id.to_owned(), raw: raw.into() }
    }
}

/// Reads `{"object":"list","data":[{"id":…},…]}`; entries without an id are passed over.
///
/// # Errors
///
/// `UpstreamInvalid` when it is not such a document.
pub fn decode_list(body: &Bytes) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    let mut scanner = Scanner::new(body);
    let read = scanner
        .object(|scanner, key| {
            if key.is("data") && scanner.peek()? == Kind::Array {
                scanner.array(|scanner| entry(scanner, body, &mut models))
            } else {
                scanner.skip().map(drop)
            }
        })
        .and_then(|()| scanner.end());
    match read {
        Ok(()) => Ok(models),
        Err(error) => {
            let message = format!("the upstream's list of models is not valid: {}", error.reason);
            Err(Error::new(ErrorKind::UpstreamInvalid, message))
        }
    }
}

fn entry(scanner: &mut Scanner<'_>, body: &Bytes, models: &mut Vec<Model>) -> Result<(), SyntaxError> {
    if scanner.peek()? != Kind::Object {
        return scanner.skip().map(drop);
    }
    let start = scanner.position();
    let mut id = None;
    scanner.object(|scanner, key| {
        if key.is("id") && scanner.peek()? == Kind::String {
            id = Some(scanner.string()?.decode().into_owned());
            Ok(())
        } else {
            scanner.skip().map(drop)
        }
    })?;
    models.extend(id.map(|id| Model { id, raw: body.slice(start..scanner.position()) }));
    Ok(())
}

/// Writes a list.
pub fn encode_list<'m>(models: impl IntoIterator<Item = &'m Model>) -> Bytes {
    let mut list = br#"{"object":"list","data":["#.to_vec();
    for (index, model) in models.into_iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(&model.raw);
    }
    list.extend_from_slice(b"]}");
    list.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_as_they_are() {
        let body = Bytes::from_static(
            br#"{"object":"list","data":[{"id":"a","x":1e-7}, 5, {"n":1},{"id":"\u0062"}]}"#,
        );
        let models = decode_list(&body).unwrap();
        assert_eq!(models.iter().map(|model| &*model.id).collect::<Vec<_>>(), ["a", "b"]);
        let expected = br#"{"object":"list","data":[{"id":"a","x":1e-7},{"id":"\u0062"}]}"#;
        assert_eq!(encode_list(&models), expected.as_slice());
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for body in ["", "[]", "x", r#"{"data":[}"#, r#"{"data":[]} x"#] {
            assert!(decode_list(&Bytes::from_static(body.as_bytes())).is_err(), "{body}");
        }
    }
}

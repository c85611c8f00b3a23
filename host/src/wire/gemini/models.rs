//! Google's list of models.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::percent;
use crate::wire::json::{Cursor, Kind, cursor, quote};
use crate::wire::models::Page;

/// What stands before the names of models.
const PREFIX: &str = "models/";

/// The query that asks for as many models at once as the vendor gives; of those behind `after`, if there is one.
///
/// Source: Gemini API reference, "models.list", `pageSize` and `pageToken`, seen 2026-11.
pub fn page_query(after: Option<&str>) -> String {
    let after =
        after.map(|token| format!("&pageToken={}", percent::encoded_value(token))).unwrap_or_default();
    format!("pageSize=1000{after}")
}

/// Reads the ids of `{"models":[{"name":"models/…"},…]}`, without what stands before them; entries without a name are
/// passed over.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is not such a document.
pub fn decode_page(body: &[u8]) -> Result<Page> {
    let (mut ids, mut next) = (Vec::new(), None);
    let read = cursor::read(body, |value| {
        value.members(|name, value| match name {
            "models" | "tunedModels" => value.elements(|value| {
                ids.extend(id_of(value)?);
                Ok(())
            }),
            "nextPageToken" if value.kind() == Some(Kind::String) => {
                next = Some(value.text()?.into_owned()).filter(|token| !token.is_empty());
                Ok(())
            }
            _ => Ok(()),
        })
    });
    read.map_err(|error| {
        let message = format!("the upstream's list of models is not valid: {}", error.message);
        Error::new(ErrorKind::UpstreamInvalid, message)
    })?;
    Ok(Page { ids, next })
}

/// The id of an entry; none if it has no name.
fn id_of(value: &mut Cursor<'_, '_>) -> Result<Option<String>> {
    let mut id = None;
    if value.kind() == Some(Kind::Object) {
        value.members(|name, value| {
            if name == "name" && value.kind() == Some(Kind::String) {
                let name = value.text()?;
                id = Some(name.strip_prefix(PREFIX).unwrap_or(&name).to_owned());
            }
            Ok(())
        })?;
    }
    Ok(id)
}

/// Writes the list of these models.
pub fn encode_list<'m>(ids: impl IntoIterator<Item = &'m str>) -> Bytes {
    let mut list = br#"{"models":["#.to_vec();
    for (index, id) in ids.into_iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        entry(id, &mut list);
    }
    list.extend_from_slice(b"]}");
    list.into()
}

/// Writes one model.
pub fn encode(id: &str) -> Bytes {
    let mut model = Vec::new();
    entry(id, &mut model);
    model.into()
}

/// Source: Gemini API reference, "Models", seen 2026-11. Which of the methods a model has is known to its upstream alone.
fn entry(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"name":"#);
    quote(&format!("{PREFIX}{id}"), out);
    out.extend_from_slice(br#","displayName":"#);
    quote(id, out);
    out.extend_from_slice(
        br#","supportedGenerationMethods":["generateContent","streamGenerateContent","countTokens","embedContent","batchEmbedContents"]}"#,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_written() {
        let list = encode_list(["a", "org/b \"c\""]);
        assert_eq!(decode_page(&list).unwrap().ids, ["a", "org/b \"c\""]);
        assert_eq!(decode_page(&encode_list([])).unwrap(), Page { ids: Vec::new(), next: None });
    }

    #[test]
    fn what_is_no_model_is_passed_over() {
        let body = br#"{"models":[5,{"name":6},{"x":1},{"name":"models/a"}],"nextPageToken":"x"}"#;
        assert_eq!(
            decode_page(body).unwrap(),
            Page { ids: vec!["a".to_owned()], next: Some("x".to_owned()) }
        );
        assert!(decode_page(b"[]").is_err());
        assert!(decode_page(b"{").is_err());
        for none in [r#"{"nextPageToken":""}"#, r#"{"nextPageToken":5}"#, r#"{"nextPageToken":null}"#] {
            assert_eq!(decode_page(none.as_bytes()).unwrap().next, None, "{none}");
        }
        assert_eq!(page_query(None), "pageSize=1000");
        assert_eq!(page_query(Some("a+/=")), "pageSize=1000&pageToken=a%2B%2F%3D");
    }
}

//! Anthropic's lists of models.
//!
//! Source: Anthropic, API reference, "List Models" and "Get a Model", seen 2026-11.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::percent;
use crate::wire::json::{Members, Writer, elements};
use crate::wire::models::Page;

/// When a model was made whose age nobody knows.
const UNKNOWN_TIME: &str = "1970-01-01T00:00:00Z";

/// Writes a list of models by the names that requests use, all in one page.
pub fn encode_list<'a>(ids: impl IntoIterator<Item = &'a str>) -> Bytes {
    let (mut data, mut first, mut last) = (b"[".to_vec(), None, None);
    for id in ids {
        if first.is_some() {
            data.push(b',');
        }
        first.get_or_insert(id);
        last = Some(id);
        write_model(id, &mut data);
    }
    data.push(b']');
    let mut out = Vec::with_capacity(data.len() + 80);
    let mut writer = Writer::new(&mut out);
    writer.member("data").extend_from_slice(&data);
    writer.plain("has_more", false);
    for (name, id) in [("first_id", first), ("last_id", last)] {
        match id {
            Some(id) => writer.string(name, id),
            None => writer.raw(name, "null"),
        }
    }
    writer.finish();
    out.into()
}

/// Writes one model.
pub fn encode_model(id: &str) -> Bytes {
    let mut out = Vec::with_capacity(160);
    write_model(id, &mut out);
    out.into()
}

fn write_model(id: &str, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    writer.string("type", "model");
    writer.string("id", id);
    writer.string("display_name", id);
    writer.string("created_at", UNKNOWN_TIME);
    writer.string("lifecycle", "active");
    writer.finish();
}

/// The query that asks for as many models at once as the vendor gives; of those behind `after`, if there is one.
///
/// Source: the same, `limit` and `after_id`.
pub fn page_query(after: Option<&str>) -> String {
    let after = after.map(|id| format!("&after_id={}", percent::encoded_value(id))).unwrap_or_default();
    format!("limit=1000{after}")
}

/// Reads the names in a page of an upstream's list; entries without one are passed over.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is no list.
pub fn decode_page(body: &[u8]) -> Result<Page> {
    let text = std::str::from_utf8(body).ok();
    let page = text.and_then(Members::of).and_then(|page| {
        let list = elements(page.get("data")?)?;
        let has_more = page.get("has_more") == Some("true");
        let last = page.string("last_id");
        Some((list, last.filter(|last| has_more && !last.is_empty())))
    });
    let Some((list, next)) = page else {
        let message = "the upstream's list of models is not valid";
        return Err(Error::new(ErrorKind::UpstreamInvalid, message));
    };
    Ok(Page { ids: list.into_iter().filter_map(|model| Members::of(model)?.string("id")).collect(), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_written() {
        let list = encode_list(["a", "b/\"c\""]);
        let model = |id: &str| {
            format!(
                r#"{{"type":"model","id":{id},"display_name":{id},"created_at":"1970-01-01T00:00:00Z","lifecycle":"active"}}"#
            )
        };
        let (a, b) = (r#""a""#, r#""b/\"c\"""#);
        let expected = format!(
            r#"{{"data":[{},{}],"has_more":false,"first_id":{a},"last_id":{b}}}"#,
            model(a),
            model(b)
        );
        assert_eq!(list, expected);
        assert_eq!(encode_model("a"), model(a));
        assert_eq!(decode_page(&list).unwrap().ids, ["a", "b/\"c\""]);
        assert_eq!(encode_list([]), r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#);
    }

    #[test]
    fn a_page_says_what_follows() {
        for (body, next) in [
            (r#"{"data":[],"has_more":true,"last_id":"a/b"}"#, Some("a/b")),
            (r#"{"data":[],"has_more":false,"last_id":"a"}"#, None),
            (r#"{"data":[],"has_more":true,"last_id":null}"#, None),
            (r#"{"data":[],"has_more":"yes","last_id":"a"}"#, None),
        ] {
            assert_eq!(decode_page(body.as_bytes()).unwrap().next.as_deref(), next, "{body}");
        }
        assert_eq!(page_query(None), "limit=1000");
        assert_eq!(page_query(Some("a/b&c")), "limit=1000&after_id=a%2Fb%26c");
    }

    #[test]
    fn what_is_no_model_is_passed_over_and_what_is_no_list_refused() {
        assert_eq!(decode_page(br#"{"data":[1,{"id":2},{"id":"a"}]}"#).unwrap().ids, ["a"]);
        for body in ["", "[]", "{}", r#"{"data":{}}"#] {
            assert_eq!(decode_page(body.as_bytes()).unwrap_err().kind, ErrorKind::UpstreamInvalid);
        }
    }
}

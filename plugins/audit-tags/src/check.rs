//! What the schema of the settings cannot say. Messages name the place.

use std::fmt::Arguments;

use crate::settings::{Band, Settings, Source, Tag};

/// Headers that carry credentials. What ends like one of these is taken for one too.
const CREDENTIAL_HEADERS: [&str; 6] =
    ["authorization", "cookie", "api-key", "-token", "-secret", "-password"];

/// Finds the first mistake.
pub(crate) fn settings(settings: &Settings) -> Result<(), String> {
    let Settings { tags, slow_ms, slow_first_token_ms } = settings;
    if tags.is_empty() && slow_ms.is_none() && slow_first_token_ms.is_none() {
        return Err("nothing would be labelled: give `tags`, `slow_ms` or `slow_first_token_ms`".to_owned());
    }
    tags.iter().enumerate().try_for_each(|(index, tag)| self::tag(tag, format_args!("tags[{index}]")))
}

fn tag(tag: &Tag, place: Arguments<'_>) -> Result<(), String> {
    if tag.name.is_empty() {
        return Err(format!("`{place}.name` is empty: name the label"));
    }
    if !(1..=4096).contains(&tag.max) {
        return Err(format!("`{place}.max` is {}; it must be from 1 to 4096 bytes", tag.max));
    }
    let has_map = !tag.map.is_empty() || tag.other.is_some();
    if has_map && !tag.bands.is_empty() {
        return Err(format!("`{place}` has `bands` beside `map` or `other`: keep one of them"));
    }
    source(&tag.from, format_args!("{place}.from"))?;
    bands(&tag.bands, format_args!("{place}.bands"))
}

fn source(source: &Source, place: Arguments<'_>) -> Result<(), String> {
    match source {
        Source::Header(name) if name.is_empty() => Err(format!("`{place}.header` is empty: name the header")),
        Source::Header(name) if is_credential(name) => Err(format!(
            "`{place}.header` is `{name}`, which may carry a credential and is never made a label"
        )),
        Source::Pointer(pointer) if !pointer.starts_with('/') => Err(format!(
            "`{place}.pointer` is `{pointer}`, which is no JSON Pointer: write it like `/metadata/team`"
        )),
        _ => Ok(()),
    }
}

fn is_credential(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    CREDENTIAL_HEADERS.iter().any(|ending| header.ends_with(ending))
}

fn bands(bands: &[Band], place: Arguments<'_>) -> Result<(), String> {
    for (index, pair) in bands.windows(2).enumerate() {
        let is_rising = match (pair[0].below, pair[1].below) {
            (Some(lower), Some(upper)) => lower < upper,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !is_rising {
            return Err(format!(
                "`{place}[{}]` can never be reached: list the bands from the lowest on",
                index + 1
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_sdk::Config as _;

    use super::*;

    #[track_caller]
    fn check(tag: Value, message: &str) {
        let settings = Settings::from_json(&json!({ "tags": [tag] }).to_string()).unwrap();
        assert_eq!(super::settings(&settings).err().as_deref().unwrap_or(""), message);
    }

    #[test]
    fn something_is_labelled() {
        let message = "nothing would be labelled: give `tags`, `slow_ms` or `slow_first_token_ms`";
        assert_eq!(settings(&Settings::default()).err().as_deref(), Some(message));
        assert!(settings(&Settings { slow_ms: Some(1), ..Settings::default() }).is_ok());
        check(json!({ "name": "", "from": "tenant" }), "`tags[0].name` is empty: name the label");
    }

    #[test]
    fn a_credential_is_never_a_label() {
        for name in [
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "Set-Cookie",
            "x-api-key",
            "api-key",
            "x-amz-security-token",
            "x-client-secret",
            "x-password",
        ] {
            let message = format!(
                "`tags[0].from.header` is `{name}`, which may carry a credential and is never made a label"
            );
            check(json!({ "name": "a", "from": { "header": name } }), &message);
        }
        for name in ["x-team", "idempotency-key", "x-request-id", "user-agent"] {
            check(json!({ "name": "a", "from": { "header": name } }), "");
        }
    }

    #[test]
    fn a_source_is_named() {
        let message =
            "`tags[0].from.pointer` is `user`, which is no JSON Pointer: write it like `/metadata/team`";
        check(json!({ "name": "a", "from": { "pointer": "user" } }), message);
        let message = "`tags[0].from.header` is empty: name the header";
        check(json!({ "name": "a", "from": { "header": "" } }), message);
    }

    #[test]
    fn bands_rise() {
        let tag = |bands| json!({ "name": "a", "from": "total_tokens", "bands": bands });
        let band = |below| json!({ "below": below, "value": "x" });
        let message = "`tags[0].bands[1]` can never be reached: list the bands from the lowest on";
        check(tag(json!([band(2), band(2)])), message);
        check(tag(json!([band(2), band(1)])), message);
        check(tag(json!([{ "value": "x" }, band(1)])), message);
        check(tag(json!([band(1), band(2), { "value": "x" }])), "");
        let message = "`tags[0]` has `bands` beside `map` or `other`: keep one of them";
        check(json!({ "name": "a", "from": "status", "bands": [band(1)], "other": "x" }), message);
    }

    #[test]
    fn a_length_is_bounded() {
        let message = "`tags[0].max` is 0; it must be from 1 to 4096 bytes";
        check(json!({ "name": "a", "from": "tenant", "max": 0 }), message);
    }

    #[test]
    fn a_mistake_of_type_is_named() {
        #[track_caller]
        fn check(tag: Value, word: &str) {
            let message = Settings::from_json(&json!({ "tags": [tag] }).to_string()).err().unwrap();
            assert!(message.contains(word), "{message}");
        }
        check(json!({ "name": "a", "from": "nobody" }), "`nobody`");
        check(json!({ "name": "a", "from": { "cookie": "x" } }), "`cookie`");
        check(json!({ "name": "a", "from": "tenant", "maximum": 1 }), "`maximum`");
        check(json!({ "from": "tenant" }), "`name`");
    }
}

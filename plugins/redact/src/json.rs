//! Changes the strings of a JSON text and nothing else. A tree is not built: its depth would be the client's to choose.

/// Replaces what `change` changes of the strings, and returns the new text; none if it changed none. Names of members stay,
/// and so do data URLs, in whose letters anything may be found by chance.
pub(crate) fn replace(json: &str, mut change: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut replaced = String::new();
    let mut kept = 0;
    let mut at = 0;
    while let Some(quote) = json[at..].find('"') {
        let from = at + quote;
        let to = from + string_len(&json[from..]);
        at = to;
        let is_name = json[to..].trim_start().starts_with(':');
        let text = if is_name { None } else { serde_json::from_str::<String>(&json[from..to]).ok() };
        let changed = text.filter(|text| !text.starts_with("data:")).and_then(|text| change(&text));
        if let Some(changed) = changed {
            replaced.push_str(&json[kept..from]);
            replaced.push_str(&serde_json::to_string(&changed).expect("a string can be written"));
            kept = to;
        }
    }
    if kept == 0 {
        return None;
    }
    replaced.push_str(&json[kept..]);
    Some(replaced)
}

/// Returns the length of the string that the text begins with, quotes included; all of the text if it does not end.
fn string_len(json: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        let change = |text: &str| text.contains('x').then(|| text.replace('x', "\"y"));
        assert_eq!(replace(json, change).as_deref(), expected);
    }

    #[test]
    fn strings_change_and_nothing_else() {
        check(r#""x""#, Some(r#""\"y""#));
        check(r#" [ "a" , "x\n\u0078" , 1.0 ] "#, Some(r#" [ "a" , "\"y\n\"y" , 1.0 ] "#));
        check(r#"{"x": "x", "b" : {"x" : ["x"]}}"#, Some(r#"{"x": "\"y", "b" : {"x" : ["\"y"]}}"#));
        check(r#"["\\", "x\\"]"#, Some(r#"["\\", "\"y\\"]"#));
    }

    #[test]
    fn what_has_nothing_to_change_is_not_copied() {
        check(r#"{"x": "a"}"#, None);
        check(r#"["data:image/png;base64,x"]"#, None);
        check("", None);
        check("12", None);
        check(r#"["x"#, None);
    }

    proptest! {
        #[test]
        fn any_list_of_texts_is_read_and_written_again(texts in prop::collection::vec(any::<String>(), 0..8)) {
            let json = serde_json::to_string(&texts).unwrap();
            let replaced = replace(&json, |text| Some(format!("{text}!"))).unwrap_or(json);
            let expected: Vec<_> = texts.iter().map(|text| match text.starts_with("data:") {
                true => text.clone(),
                false => format!("{text}!"),
            }).collect();
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&replaced).unwrap(), expected);
        }

        #[test]
        fn nothing_panics(json in r#"["\\\\:,ax\[]{0,20}"#) {
            replace(&json, |text| Some(text.to_owned()));
        }
    }
}

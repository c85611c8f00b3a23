//! Patterns of names, as configurations write them.

/// Says whether a whole text is matched by a pattern in which `*` stands for any text, also none. Everything else stands
/// for itself; letters differ from capitals.
///
/// ```
/// use witgate_sdk::glob;
///
/// assert!(glob::matches("gpt-*", "gpt-5"));
/// assert!(glob::matches("*/llama*", "meta/llama-3"));
/// assert!(!glob::matches("gpt-*", "my-gpt-5"));
/// ```
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place is the best one: what follows has the most left to match.
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text), expected, "`{pattern}` on `{text}`");
    }

    #[test]
    fn a_star_is_any_text() {
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("*", "a", true);
        check("a", "a", true);
        check("a", "A", false);
        check("a*", "ab", true);
        check("a*", "ba", false);
        check("*a", "ba", true);
        check("*a", "ab", false);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("*b*", "abc", true);
        check("*b*", "ac", false);
        check("**", "a", true);
        check("日*", "日本", true);
    }

    /// Tries every length that each star can have.
    fn by_trying(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|len| by_trying(rest, &text[len..])),
            Some((character, rest)) => text.first() == Some(character) && by_trying(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_everything(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), by_trying(&chars(&pattern), &chars(&text)));
        }
    }
}

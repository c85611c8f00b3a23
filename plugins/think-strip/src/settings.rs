//! What an operator can write under `config`.

use serde::Deserialize;
use witgate_sdk::Config;

use crate::splitter::{Rules, Unclosed};

const TAGS_MAX: usize = 8;
const TAG_BYTES_MAX: usize = 64;

/// Takes thinking out of answers, or moves it to where reasoning belongs.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// What becomes of thinking: `strip` drops it, `reasoning` moves it to the reasoning of the answer, `keep` leaves
    /// everything as it is, at no cost.
    pub(crate) mode: Mode,
    /// The pairs of tags that thinking stands between. An opening tag is closed by its own closing tag.
    #[config(min_items = 1, max_items = 8)]
    tags: Vec<Tags>,
    /// Whether thinking also counts in the middle of the answer. Otherwise it does only at the start, behind at most 256
    /// bytes of white space, so that an answer about tags stays whole.
    anywhere: bool,
    /// Whether an answer that does not begin with an opening tag begins inside thinking, as it does when the template of
    /// the prompt ends with the tag: all up to the first closing tag is thinking then. With `mode: strip` the text is held
    /// back until that tag, and is the answer if none comes within 256 KiB or at all. With `mode: reasoning` it is
    /// reasoning as it comes; `unclosed: answer` makes it wait as with `strip`.
    unopened: bool,
    /// What thinking is that never closes: `thinking`, or `answer`, the opening tag included. With `answer` thinking is
    /// held back until it closes; beyond 256 KiB it is thinking in any case.
    unclosed: Ending,
    /// Whether white space goes that stands before, between and behind thinking at the start of the answer. Without
    /// thinking, and in the middle of the answer, white space always stays.
    trim: bool,
}

#[derive(Clone, Copy, Config, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    Strip,
    Reasoning,
    Keep,
}

/// One pair of tags.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tags {
    /// The opening tag, which does not begin with white space.
    #[config(min_length = 1, max_length = 64, example = "<think>")]
    open: String,
    /// The closing tag.
    #[config(min_length = 1, max_length = 64, example = "</think>")]
    close: String,
}

#[derive(Clone, Copy, Config, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Thinking,
    Answer,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Strip,
            tags: vec![Tags { open: "<think>".to_owned(), close: "</think>".to_owned() }],
            anywhere: false,
            unopened: false,
            unclosed: Ending::Thinking,
            trim: true,
        }
    }
}

impl Settings {
    /// Returns what counts as thinking.
    ///
    /// # Errors
    ///
    /// Says which tag cannot be one.
    pub(crate) fn into_rules(self) -> Result<Rules, String> {
        if self.tags.is_empty() || self.tags.len() > TAGS_MAX {
            return Err(format!("`tags` has {} pairs: write 1 to {TAGS_MAX}", self.tags.len()));
        }
        let tags: Vec<_> = self.tags.into_iter().map(|tags| (tags.open, tags.close)).collect();
        for (open, close) in &tags {
            check_tag("open", open)?;
            check_tag("close", close)?;
        }
        let (opening, closing): (Vec<_>, Vec<_>) = tags.iter().map(|(open, close)| (open, close)).unzip();
        check_distinct("open", &opening, false)?;
        check_distinct("close", &closing, true)?;
        let unclosed = match self.unclosed {
            Ending::Thinking => Unclosed::Thinking,
            Ending::Answer => Unclosed::Answer,
        };
        let neither = if self.mode == Mode::Strip { Unclosed::Answer } else { unclosed };
        let Self { anywhere, unopened, trim, .. } = self;
        Ok(Rules { tags, anywhere, unopened, unclosed, neither, trim })
    }
}

fn check_tag(key: &str, tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        return Err(format!("`{key}` in `tags` is empty"));
    }
    if tag.len() > TAG_BYTES_MAX {
        return Err(format!("`{key}` in `tags` has {} bytes: write at most {TAG_BYTES_MAX}", tag.len()));
    }
    // White space before the opening tag is skipped, so such a tag would never be found.
    if key == "open" && tag.trim_start() != tag {
        return Err(format!("`open: {tag:?}` in `tags` begins with white space: leave it out"));
    }
    Ok(())
}

/// Refuses tags of which it could depend on the pieces of a text which one is found.
fn check_distinct(key: &str, tags: &[&String], may_repeat: bool) -> Result<(), String> {
    for (at, tag) in tags.iter().enumerate() {
        for (other_at, other) in tags.iter().enumerate() {
            let clashes = at != other_at && other.starts_with(tag.as_str()) && !(may_repeat && tag == other);
            if clashes {
                return Err(format!("`{key}: {other:?}` in `tags` begins with `{key}: {tag:?}`: keep one"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Rules, String> {
        Settings::from_json(json)?.into_rules()
    }

    #[track_caller]
    fn check_refused(json: &str, part: &str) {
        let message = read(json).map(drop).unwrap_err();
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn nothing_written_strips_think_tags_at_the_start() {
        let rules = read("{}").unwrap();
        assert_eq!(rules.tags, [("<think>".to_owned(), "</think>".to_owned())]);
        assert!(rules.trim && !rules.anywhere && !rules.unopened);
        assert_eq!((rules.unclosed, rules.neither), (Unclosed::Thinking, Unclosed::Answer));
        assert_eq!(Settings::from_json("{}").unwrap().mode, Mode::Strip);
    }

    #[test]
    fn every_key_is_read() {
        let rules = read(
            r#"{"mode": "reasoning", "tags": [{"open": "<a>", "close": "</>"}, {"open": "<b>", "close": "</>"}],
                "anywhere": true, "unopened": true, "unclosed": "thinking", "trim": false}"#,
        )
        .unwrap();
        assert_eq!(rules.tags.len(), 2);
        assert!(!rules.trim && rules.anywhere && rules.unopened);
        assert_eq!((rules.unclosed, rules.neither), (Unclosed::Thinking, Unclosed::Thinking));
        let rules = read(r#"{"mode": "reasoning", "unclosed": "answer"}"#).unwrap();
        assert_eq!((rules.unclosed, rules.neither), (Unclosed::Answer, Unclosed::Answer));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        check_refused(r#"{"mode": "drop"}"#, "drop");
        check_refused(r#"{"tag": []}"#, "tag");
        check_refused(r#"{"tags": []}"#, "`tags` has 0 pairs: write 1 to 8");
        check_refused(r#"{"tags": [{"open": "", "close": "b"}]}"#, "`open` in `tags` is empty");
        check_refused(r#"{"tags": [{"open": "a", "close": ""}]}"#, "`close` in `tags` is empty");
        check_refused(r#"{"tags": [{"open": "\na", "close": "b"}]}"#, "begins with white space");
        let long = "a".repeat(65);
        check_refused(&format!(r#"{{"tags": [{{"open": "{long}", "close": "b"}}]}}"#), "has 65 bytes");
        let tags = r#"{"tags": [{"open": "[", "close": "]"}, {"open": "[[", "close": "]]"}]}"#;
        check_refused(tags, r#"`open: "[["` in `tags` begins with `open: "["`: keep one"#);
        let tags = r#"{"tags": [{"open": "a", "close": "]"}, {"open": "b", "close": "]]"}]}"#;
        check_refused(tags, r#"`close: "]]"` in `tags` begins with"#);
        let tags = r#"{"tags": [{"open": "a", "close": "b"}, {"open": "a", "close": "c"}]}"#;
        check_refused(tags, "keep one");
    }
}

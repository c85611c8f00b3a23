//! What an operator can write under `config`.

use serde::Deserialize;
use witgate_sdk::{Channel, Config};

use crate::masker::{Custom, Rules};
use crate::pattern::Pattern;
use crate::regex::Regex;

const CUSTOMS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 32;
const REPLACE_BYTES_MAX: usize = 128;

/// Masks or refuses personal data and secrets, in prompts and answers.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The patterns that are built in. Unless written: all but the addresses of machines, `ipv4` and `ipv6`.
    patterns: Vec<BuiltIn>,
    /// Patterns of one's own. Where matches overlap the leftmost wins, then the longest, then one that is built in.
    #[config(max_items = 32)]
    custom: Vec<CustomSettings>,
    /// What stands in the place of a match; `{name}` is the name of the pattern.
    #[config(max_length = 128)]
    pub(crate) replace: String,
    /// Where to look: in the `request` that goes to the upstream, in the `answer` that goes to the client.
    #[config(min_items = 1)]
    directions: Vec<Direction>,
    /// Which text of an answer is looked at. In `tool_arguments`, which are JSON, a match written with escapes is not
    /// found, and a mask in the place of a number is no JSON.
    #[config(min_items = 1)]
    channels: Vec<AnswerChannel>,
    /// What to do with a match: `mask` replaces it, `reject` refuses the request, or ends the answer, with the code
    /// `content_policy_violation`.
    pub(crate) action: Action,
}

#[derive(Clone, Copy, Config, Deserialize)]
enum BuiltIn {
    /// An e-mail address.
    #[serde(rename = "email")]
    Email,
    /// The number of a payment card, by its check digit.
    #[serde(rename = "card")]
    Card,
    /// An international bank account number, by its length and check digits.
    #[serde(rename = "iban")]
    Iban,
    /// A telephone number: with `+`, or as written in North America.
    #[serde(rename = "phone")]
    Phone,
    /// An address of the internet protocol, version 4.
    #[serde(rename = "ipv4")]
    Ipv4,
    /// One of version 6.
    #[serde(rename = "ipv6")]
    Ipv6,
    /// A key of a service known by its prefix, or a bearer credential.
    #[serde(rename = "api-key")]
    ApiKey,
    /// A signed JSON web token.
    #[serde(rename = "jwt")]
    Jwt,
    /// A social security number of the United States, with its hyphens.
    #[serde(rename = "us-ssn")]
    UsSsn,
}

/// A pattern of one's own.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomSettings {
    /// Its name, in the replacement, in tags and in messages: lowercase letters, digits, `-` and `_`.
    #[config(min_length = 1, max_length = 32, example = "employee")]
    name: String,
    /// The regular expression; classes such as `\d` are those of ASCII. It must not match the empty text.
    #[config(min_length = 1, max_length = 1024, example = "\\bE-\\d{6}\\b")]
    regex: String,
}

#[derive(Clone, Copy, Config, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Direction {
    Request,
    Answer,
}

#[derive(Clone, Copy, Config, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerChannel {
    Content,
    Reasoning,
    Refusal,
    ToolArguments,
}

#[derive(Clone, Copy, Config, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Mask,
    Reject,
}

impl Default for Settings {
    fn default() -> Self {
        use BuiltIn::{ApiKey, Card, Email, Iban, Jwt, Phone, UsSsn};
        Self {
            patterns: vec![Email, Card, Iban, Phone, ApiKey, Jwt, UsSsn],
            custom: Vec::new(),
            replace: "[{name}]".to_owned(),
            directions: vec![Direction::Request, Direction::Answer],
            channels: vec![AnswerChannel::Content, AnswerChannel::Reasoning, AnswerChannel::Refusal],
            action: Action::Mask,
        }
    }
}

impl Settings {
    /// Says whether requests are looked at.
    pub(crate) fn has_requests(&self) -> bool {
        self.directions.contains(&Direction::Request)
    }

    /// Says whether answers are.
    pub(crate) fn has_answers(&self) -> bool {
        self.directions.contains(&Direction::Answer)
    }

    /// Returns which text of an answer is.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        let channels = self.channels.iter().map(|channel| match channel {
            AnswerChannel::Content => Channel::Content,
            AnswerChannel::Reasoning => Channel::Reasoning,
            AnswerChannel::Refusal => Channel::Refusal,
            AnswerChannel::ToolArguments => Channel::ToolArguments,
        });
        channels.collect()
    }

    /// Returns what is looked for.
    ///
    /// # Errors
    ///
    /// Names the key or the pattern that cannot work, and says why.
    pub(crate) fn rules(&self) -> Result<Rules, String> {
        self.check()?;
        let mut rules = Rules::default();
        for pattern in &self.patterns {
            rules.patterns.insert(pattern.pattern());
        }
        for custom in &self.custom {
            rules.customs.push(custom.compile(&rules)?);
        }
        Ok(rules)
    }

    fn check(&self) -> Result<(), String> {
        if self.patterns.is_empty() && self.custom.is_empty() {
            return Err("nothing to look for: write `patterns` or `custom`".to_owned());
        }
        if self.custom.len() > CUSTOMS_MAX {
            return Err(format!("`custom` has {} patterns: write at most {CUSTOMS_MAX}", self.custom.len()));
        }
        if self.replace.len() > REPLACE_BYTES_MAX {
            return Err(format!("`replace` is longer than {REPLACE_BYTES_MAX} bytes"));
        }
        if self.directions.is_empty() {
            return Err("`directions` is empty: write `request`, `answer` or both".to_owned());
        }
        // An empty list would mean the content to the host.
        if self.channels.is_empty() {
            return Err("`channels` is empty: leave `answer` out of `directions` instead".to_owned());
        }
        Ok(())
    }
}

impl BuiltIn {
    fn pattern(self) -> Pattern {
        match self {
            Self::Email => Pattern::Email,
            Self::Card => Pattern::Card,
            Self::Iban => Pattern::Iban,
            Self::Phone => Pattern::Phone,
            Self::Ipv4 => Pattern::Ipv4,
            Self::Ipv6 => Pattern::Ipv6,
            Self::ApiKey => Pattern::ApiKey,
            Self::Jwt => Pattern::Jwt,
            Self::UsSsn => Pattern::UsSsn,
        }
    }
}

impl CustomSettings {
    fn compile(&self, rules: &Rules) -> Result<Custom, String> {
        let Self { name, regex } = self;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_name) {
            return Err(format!(
                "`name: {name}` in `custom` is no name: write 1 to {NAME_BYTES_MAX} of `a` to `z`, digits, `-` and `_`"
            ));
        }
        let is_built_in = Pattern::ALL.iter().any(|pattern| pattern.name() == name);
        if is_built_in || rules.customs.iter().any(|other| other.name == *name) {
            return Err(format!("`name: {name}` in `custom` is taken: choose another"));
        }
        let regex = Regex::new(regex)
            .map_err(|error| format!("`regex` of `{name}` in `custom` cannot be used: {error}"))?;
        Ok(Custom { name: name.clone(), regex })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Rules, String> {
        Settings::from_json(json)?.rules()
    }

    #[track_caller]
    fn check_refused(json: &str, part: &str) {
        let message = read(json).map(drop).unwrap_err();
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn nothing_written_masks_persons_and_secrets_in_both_directions() {
        let settings = Settings::from_json("{}").unwrap();
        let names: Vec<_> = settings.rules().unwrap().patterns.iter().map(Pattern::name).collect();
        assert_eq!(names, ["email", "card", "iban", "phone", "api-key", "jwt", "us-ssn"]);
        assert!(settings.has_requests() && settings.has_answers());
        assert_eq!(settings.channels(), [Channel::Content, Channel::Reasoning, Channel::Refusal]);
        assert_eq!((settings.replace.as_str(), settings.action), ("[{name}]", Action::Mask));
    }

    #[test]
    fn every_pattern_has_one_name() {
        for pattern in Pattern::ALL {
            let rules = read(&format!(r#"{{"patterns": ["{}"]}}"#, pattern.name())).unwrap();
            assert_eq!(rules.patterns.iter().collect::<Vec<_>>(), [pattern]);
        }
    }

    #[test]
    fn every_key_is_read() {
        let settings = Settings::from_json(
            r#"{"patterns": [], "custom": [{"name": "x-1", "regex": "a+"}], "replace": "***",
                "directions": ["answer"], "channels": ["tool_arguments"], "action": "reject"}"#,
        )
        .unwrap();
        let rules = settings.rules().unwrap();
        assert_eq!((rules.patterns.is_empty(), rules.customs[0].name.as_str()), (true, "x-1"));
        assert!(!settings.has_requests() && settings.has_answers());
        assert_eq!(settings.channels(), [Channel::ToolArguments]);
        assert_eq!((settings.replace.as_str(), settings.action), ("***", Action::Reject));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        check_refused(r#"{"patterns": ["mail"]}"#, "mail");
        check_refused(r#"{"pattern": []}"#, "pattern");
        check_refused(r#"{"patterns": []}"#, "nothing to look for: write `patterns` or `custom`");
        check_refused(r#"{"directions": []}"#, "`directions` is empty");
        check_refused(r#"{"channels": []}"#, "`channels` is empty");
        check_refused(
            &format!(r#"{{"replace": "{}"}}"#, "a".repeat(129)),
            "`replace` is longer than 128 bytes",
        );
        let custom =
            |name: &str, regex: &str| format!(r#"{{"custom": [{{"name": "{name}", "regex": "{regex}"}}]}}"#);
        check_refused(&custom("A b", "a"), "`name: A b` in `custom` is no name");
        check_refused(&custom("", "a"), "is no name");
        check_refused(&custom("email", "a"), "`name: email` in `custom` is taken: choose another");
        check_refused(
            &custom("x", "(a"),
            "`regex` of `x` in `custom` cannot be used: `(` at 0 is not closed",
        );
        check_refused(&custom("x", "a*"), "it matches the empty text");
        check_refused(&custom("x", "((a?){200}){200}"), "it is larger than 2000 steps");
        let twice = r#"{"custom": [{"name": "x", "regex": "a"}, {"name": "x", "regex": "b"}]}"#;
        check_refused(twice, "is taken");
        let many: Vec<_> = (0..33).map(|at| format!(r#"{{"name": "x{at}", "regex": "a"}}"#)).collect();
        check_refused(
            &format!(r#"{{"custom": [{}]}}"#, many.join(",")),
            "`custom` has 33 patterns: write at most 32",
        );
    }
}

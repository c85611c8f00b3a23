//! `witgate explain`: why a request goes where it goes.

use std::fmt::{Display, Write as _};
use std::fs;
use std::path::Path;

use bytes::Bytes;

use crate::chat::Prompt;
use crate::config::env::Environment;
use crate::config::{self, Overrides};
use crate::percent;
use crate::route::explain::{self, Explanation};
use crate::route::{Choice, Keying, Member, Routes};
use crate::wire::Endpoint;
use crate::wire::request::{self, InPath, Request};

/// What of a request does not stand in its body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    /// Where it is posted; guessed from its keys if there is none.
    pub(super) endpoint: Option<Endpoint>,
    /// The model, where that is in the path.
    pub(super) model: Option<&'a str>,
    /// Who asks; the key's if there is none.
    pub(super) tenant: Option<&'a str>,
    /// The name of the key.
    pub(super) key: Option<&'a str>,
}

impl Asked<'_> {
    fn read(&self, body: Bytes) -> Result<Request, String> {
        let endpoint = self.endpoint.map_or_else(|| Endpoint::guess(&body), Ok)?;
        let has_path = endpoint.gemini_method(false).is_some();
        if self.model.is_some() && !has_path {
            return Err(format!("`{}` has its model in the body; leave out `--model`", endpoint.label()));
        }
        let path = self.model.map(|model| format!("{}:generateContent", percent::encoded(model)));
        let in_path = path.and_then(|path| InPath::of(&path, None));
        let is_nameless = has_path && in_path.is_none();
        request::decode(endpoint, body, in_path).map_err(|error| match is_nameless {
            true => format!("{}; where it is in the path, give `--model`", error.message),
            false => error.to_string(),
        })
    }
}

/// Reads the name of an endpoint.
///
/// # Errors
///
/// A message with all names.
pub(super) fn endpoint(label: &str) -> Result<Endpoint, String> {
    Endpoint::labelled(label).ok_or_else(|| {
        let labels: Vec<&str> = Endpoint::ALL.iter().map(|endpoint| endpoint.label()).collect();
        format!("it is one of {}", labels.join(", "))
    })
}

/// Prints how the request in a file would be routed.
///
/// # Errors
///
/// A message when the configuration or the request is not valid.
pub(super) fn run(
    config: Option<&Path>,
    environment: &Environment,
    request: &Path,
    asked: &Asked<'_>,
) -> Result<(), String> {
    let Asked { tenant, key, .. } = *asked;
    let origin = config::locate(config, environment);
    let loaded = config::load(&origin, environment, &Overrides::default());
    let (config, _) = loaded.map_err(|problems| problems.to_string())?;
    let named = |error: &dyn Display| format!("{}: {error}", request.display());
    let body = fs::read(request).map_err(|error| named(&error))?;
    let request = asked.read(body.into()).map_err(|error| named(&error))?;
    let mut keys = config.keys.iter().flat_map(|keys| keys.all.iter());
    let account = key.map(|name| {
        let found = keys.find(|key| *key.account.name == *name).map(|key| &*key.account);
        found.ok_or_else(|| format!("there is no key `{name}`"))
    });
    let account = account.transpose()?;
    let of_key = account.and_then(|account| account.tenant.as_deref());
    let keying = Keying { tenant: tenant.or(of_key).unwrap_or_default(), model: request.model() };
    let mut members: Vec<Member> = config.upstreams.iter().map(Member::from).collect();
    if let Some(account) = account {
        let may_use_model = account.may_use_model(keying.model);
        for member in &mut members {
            member.is_enabled &= may_use_model && account.may_use_upstream(&member.name);
        }
    }
    let routes = Routes::with_members(members, config.routing);
    print!("{}", explain(&routes, keying, &request.prompt(true)));
    Ok(())
}

/// Says in a small table which upstreams would be tried for a request, in which order and why.
///
/// Strategies that draw, count or take turns are shown as they would begin: nothing in flight and the first turn.
pub fn explain(routes: &Routes, keying: Keying<'_>, prompt: &Prompt<'_>) -> String {
    let Explanation { strategy, anchor, choices } = explain::explain(routes, keying, prompt, |_| 0);
    let name = |choice: &Choice| &*routes.members()[choice.upstream].name;
    let choice = choices.first().map_or("none: no enabled upstream accepts this model", name);
    let anchor = anchor.map_or_else(|why| format!("none: {why}"), |anchor| anchor.to_string());
    let facts = [
        ["model", keying.model].map(str::to_owned),
        ["strategy", strategy.name()].map(str::to_owned),
        ["anchor".to_owned(), anchor],
        ["choice", choice].map(str::to_owned),
    ];
    let mut rows = vec![["", "upstream", "priority", "tier", "standing", "score"].map(str::to_owned)];
    rows.extend((1..).zip(&choices).map(|(place, choice): (usize, _)| {
        let member = &routes.members()[choice.upstream];
        [
            place.to_string(),
            member.name.to_string(),
            member.priority.to_string(),
            choice.tier.to_string(),
            format!("{:.3}", choice.standing),
            format!("{:.6}", choice.score),
        ]
    }));
    if choices.is_empty() { align(&facts) } else { format!("{}\n{}", align(&facts), align(&rows)) }
}

/// Lays rows out in columns two spaces apart.
fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:<width$}  ").expect("a String takes all");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::config::{ModelMatch, PriorityMode, Routing, Strategy};

    #[track_caller]
    fn check_read(asked: Asked<'_>, body: &'static str, expected: Result<&str, &str>) {
        let read = asked.read(Bytes::from(body));
        let read = read.as_ref().map(Request::model).map_err(|message| &**message);
        assert_eq!(read, expected, "{body}");
    }

    #[test]
    fn what_the_body_does_not_say_is_given() {
        let contents = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
        let model = Asked { model: Some("org/gemini 2"), ..Asked::default() };
        check_read(model, contents, Ok("org/gemini 2"));
        let missing = "`model` is missing, name the model to use; where it is in the path, give `--model`";
        check_read(Asked::default(), contents, Err(missing));
        let chat = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
        check_read(Asked::default(), chat, Ok("m"));
        let messages = Asked { endpoint: Some(Endpoint::Messages), ..Asked::default() };
        check_read(messages, chat, Ok("m"));
        let both = "`chat.completions` has its model in the body; leave out `--model`";
        check_read(model, chat, Err(both));
        assert_eq!(endpoint("anthropic.messages"), Ok(Endpoint::Messages));
        assert!(endpoint("x").unwrap_err().contains("gemini.generate_content"));
    }

    #[track_caller]
    fn check(strategy: Strategy, model: &str, texts: &[&'static str], expected: &str) {
        let member = |(name, priority): (&str, u32)| Member {
            name: name.into(),
            models: ModelMatch::Prefix(vec!["gpt-".to_owned()]),
            aliases: Vec::new(),
            priority,
            is_enabled: true,
        };
        let members = [("openai", 10), ("azure_backup", 1), ("spare", 0)].map(member).to_vec();
        let routes = Routes::with_members(members, Routing { strategy, priority_mode: PriorityMode::Weight });
        let prompt = Prompt {
            prefix: texts.iter().map(|text| Cow::Borrowed(text.as_bytes())).collect(),
            users: texts.iter().map(|&text| Cow::Borrowed(text)).collect(),
        };
        let explained = explain(&routes, Keying { tenant: "", model }, &prompt);
        assert_eq!(explained.trim_end(), expected.trim(), "\n{explained}");
    }

    #[test]
    fn the_explanation_shows_candidates_scores_anchor_and_choice() {
        check(
            Strategy::Deterministic,
            "gpt-4o",
            &["be brief", "hello"],
            "
model     gpt-4o
strategy  deterministic
anchor    9fcc1e4d8e34afce
choice    openai

   upstream      priority  tier  standing  score
1  openai        10        0     0.000     0.394222
2  azure_backup  1         0     0.000     0.463269
3  spare         0         1     0.000     0.315588
",
        );
    }

    #[test]
    fn voting_shows_its_votes() {
        check(
            Strategy::Voting,
            "gpt-4o",
            &["hello", "and then?"],
            "
model     gpt-4o
strategy  voting
anchor    78c06fff2faf60f1
choice    openai

   upstream      priority  tier  standing  score
1  openai        10        0     -14.000   0.179181
2  azure_backup  1         0     0.000     0.091342
3  spare         0         1     0.000     2.123400
",
        );
    }

    #[test]
    fn a_request_without_text_says_that_it_draws() {
        check(
            Strategy::Deterministic,
            "gpt-4o",
            &[],
            "
model     gpt-4o
strategy  deterministic
anchor    none: there is no text, so that every request is a draw
choice    openai

   upstream      priority  tier  standing  score
1  openai        10        0     0.000     0.011059
2  azure_backup  1         0     0.000     0.433761
3  spare         0         1     0.000     0.217516
",
        );
    }

    #[test]
    fn a_strategy_that_does_not_hash_says_so() {
        check(
            Strategy::Failover,
            "gpt-4o",
            &["hello"],
            "
model     gpt-4o
strategy  failover
anchor    none: the choice does not depend on the text
choice    openai

   upstream      priority  tier  standing  score
1  openai        10        0     0.000     0.000000
2  azure_backup  1         0     0.000     0.000000
3  spare         0         1     0.000     0.000000
",
        );
    }

    #[test]
    fn a_model_that_nobody_accepts_has_no_choice() {
        check(
            Strategy::Deterministic,
            "claude",
            &["hello"],
            "
model     claude
strategy  deterministic
anchor    none: the choice does not depend on the text
choice    none: no enabled upstream accepts this model
",
        );
    }
}

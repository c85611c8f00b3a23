//! A plugin loaded for one command: the configuration that a file with the same words would give.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::{TrialArguments, component};
use crate::config::env::Environment;
use crate::config::{self, Config, Overrides};
use crate::plugin::about::About;
use crate::plugin::{Loaded, Runtime};

/// The configuration that has one plugin and one upstream.
///
/// # Errors
///
/// Everything that is wrong with the component or the words, as `witgate check` would say it.
pub(super) fn config(
    trial: &TrialArguments,
    base_url: &str,
    environment: &Environment,
) -> Result<Config, String> {
    let name = name(
        &About::of(&component(&trial.source)?).map_err(|problem| format!("`{}`: {problem}", trial.source))?,
    );
    let text = text(trial, &name, base_url)?;
    // Relative places are those of the folder the command runs in.
    let path = Path::new("command-line.yaml");
    let (config, warnings) = config::load_text(&text, path, environment, &Overrides::default())
        .map_err(|problems| problems.to_string())?;
    warnings.iter().for_each(|warning| eprintln!("{warning}"));
    Ok(config)
}

/// Loads the plugins of a configuration as the gateway does: compiled, held against schema and grants, and tried out.
///
/// # Errors
///
/// What is wrong with the plugin.
pub(super) async fn load(config: Config) -> Result<Loaded, String> {
    let loading = tokio::task::spawn_blocking(move || Loaded::new(&config, None, &Runtime::default()));
    loading.await.map_err(|_| "the plugin could not be loaded: this is a defect of witgate".to_owned())?
}

/// What the plugin calls itself, if a configuration can call it so.
fn name(about: &About) -> String {
    let is_plain = |name: &&String| {
        name.len() <= 64 && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    about.manifest.name.as_ref().filter(is_plain).cloned().unwrap_or_else(|| "plugin".to_owned())
}

/// The configuration as a file would have it.
fn text(trial: &TrialArguments, name: &str, base_url: &str) -> Result<String, String> {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = format!(
        "upstreams:\n  - name: upstream\n    base_url: {}\nplugins:\n  - name: {name}\n    source: {}\n",
        quoted(base_url),
        quoted(&trial.source)
    );
    if !trial.allow.is_empty() {
        // Each is an entry of the mapping, in YAML as in a file.
        writeln!(text, "    allow: {{ {} }}", trial.allow.join(", ")).expect("a String takes all");
    }
    if let Some(given) = &trial.config {
        let config = plugin_config(given)?;
        let pretty = serde_json::to_string_pretty(&config).expect("JSON that was read can be written");
        writeln!(text, "    config:\n      {}", pretty.replace('\n', "\n      "))
            .expect("a String takes all");
    }
    Ok(text)
}

/// The plugin's configuration: JSON, or `@` and the file it is in.
fn plugin_config(given: &Path) -> Result<Value, String> {
    let given = given.to_str().ok_or("`--config` is not UTF-8: give JSON, or `@` and a file with it")?;
    let read = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| format!("`--config {given}` cannot be read: {error}"))?,
    };
    serde_json::from_str(&read).map_err(|error| {
        let hint = if Path::new(given).exists() {
            format!("; did you mean `--config @{given}`?")
        } else {
            String::new()
        };
        format!("`--config {given}` is no JSON: {error}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(config: Option<&str>, allow: &[&str]) -> TrialArguments {
        TrialArguments {
            source: "builtin:think-strip".to_owned(),
            config: config.map(Into::into),
            allow: allow.iter().map(|grant| (*grant).to_owned()).collect(),
        }
    }

    fn configured(config: Option<&str>, allow: &[&str]) -> Result<Config, String> {
        super::config(&trial(config, allow), "builtin:echo", &Environment::default())
    }

    #[test]
    fn the_words_are_those_of_a_file() {
        let config = configured(
            Some(r#"{"mode": "keep", "a": ["b\n#: ", {}]}"#),
            &["kv: 1KiB", "metrics: 2, credentials: true"],
        );
        let plugin = config.unwrap().plugins.remove(0);
        assert_eq!(&*plugin.name, "think-strip");
        let (found, expected): (Value, Value) = (
            serde_json::from_str(&plugin.config).unwrap(),
            serde_json::json!({"mode": "keep", "a": ["b\n#: ", {}]}),
        );
        assert_eq!(found, expected);
        assert_eq!((plugin.allow.kv, plugin.allow.metrics, plugin.allow.credentials), (1024, 2, true));
        assert_eq!(&*configured(None, &[]).unwrap().plugins[0].config, "{}");
    }

    #[track_caller]
    fn refused(config: Option<&str>, allow: &[&str], message: &str) {
        let problem = configured(config, allow).unwrap_err();
        assert!(problem.contains(message), "{problem}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        refused(Some("{"), &[], "`--config {` is no JSON");
        refused(Some("Cargo.toml"), &[], "did you mean `--config @Cargo.toml`?");
        refused(Some("@nowhere.json"), &[], "cannot be read");
        refused(None, &["kv: lots"], "command-line.yaml:");
        refused(None, &["kw: 1MiB"], "kw");
    }
}

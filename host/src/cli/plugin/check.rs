//! `witgate plugin check`: loads a plugin as the gateway would, and nothing else.

use super::TrialArguments;
use super::trial;
use crate::cli::serve;
use crate::config::env::Environment;

/// Says whether a gateway would take the plugin with this configuration and these grants.
///
/// # Errors
///
/// What is wrong, and what to change.
pub(super) fn run(arguments: &TrialArguments, environment: &Environment) -> Result<(), String> {
    let config = trial::config(arguments, "builtin:echo", environment)?;
    let loaded = serve::runtime()?.block_on(trial::load(config))?;
    let hooks = loaded.hooks;
    println!("{}: ok ({hooks})", arguments.source);
    Ok(())
}

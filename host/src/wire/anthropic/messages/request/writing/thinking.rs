//! How much a model is told to think, and how many tokens it may use for that.

use crate::chat::{ChatRequest, Effort, Field, Level, ToolChoice};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::anthropic::messages::model;
use crate::wire::convert::{EffortBudgets, Terms};
use crate::wire::json::Writer;

use super::content::Turns;

/// The smallest budget there is.
///
/// Source: Anthropic, API reference, `thinking.budget_tokens`, seen 2026-11.
const BUDGET_MIN: u64 = 1024;

/// From which version on models find out themselves how much to think, within an effort.
///
/// Source: Anthropic, "Adaptive thinking", seen 2026-11.
const WITH_ADAPTIVE: (u32, u32) = (4, 6);

/// What is written about thinking.
#[derive(Debug, Default)]
pub(super) struct Thinking {
    /// The most tokens of the answer, thinking included.
    pub(super) max_tokens: u64,
    /// Whether the model thinks.
    pub(super) is_on: bool,
    /// `output_config.effort`.
    pub(super) effort: Option<&'static str>,
    mode: Option<Mode>,
    display: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disabled,
    Adaptive,
    Enabled(u64),
}

/// Decides how much a request lets the model think.
///
/// # Errors
/// As [`Terms::cannot`].
pub(super) fn decide(request: &ChatRequest, turns: &Turns, terms: &mut Terms<'_>) -> Result<Thinking> {
    let output_max = model::output_max(&request.model).unwrap_or(u64::MAX);
    let max_tokens = request.max_tokens.unwrap_or_else(|| terms.max_tokens_default.min(output_max));
    let Some(reasoning) = request.reasoning else {
        return Ok(Thinking { max_tokens, ..Thinking::default() });
    };
    let is_own = request.surface == Surface::Messages;
    let (mode, effort) = mode(reasoning.level, is_own, &request.model, terms.budgets);
    let mut thinking = Thinking { max_tokens, effort, mode, display: reasoning.is_shown, is_on: false };
    if let Some(Mode::Enabled(budget)) = mode {
        // A default that is too small for the thinking is not the client's wish.
        if request.max_tokens.is_none() {
            thinking.max_tokens = max_tokens.max(budget.saturating_add(BUDGET_MIN)).min(output_max);
        }
        let most = match request.max_tokens {
            // The client did not ask for so much thinking itself, so there is room for an answer.
            Some(max_tokens) if !is_own => max_tokens - max_tokens / 4,
            _ => thinking.max_tokens.saturating_sub(1),
        };
        let fitting = budget.max(BUDGET_MIN).min(most);
        thinking.mode =
            (fitting >= BUDGET_MIN && !turns.continues_without_thinking()).then_some(Mode::Enabled(fitting));
    }
    if !is_own && !model::can_think(&request.model) {
        thinking.mode = None;
    }
    let is_forced = matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { is_required: true, .. })
    );
    if is_forced && !is_own && thinking.mode != Some(Mode::Disabled) {
        thinking.mode = None;
    }
    if thinking.mode != mode {
        terms.cannot(Field::Reasoning)?;
    }
    thinking.is_on = matches!(thinking.mode, Some(Mode::Adaptive | Mode::Enabled(_)));
    Ok(thinking)
}

/// How a level is said to a model.
fn mode(
    level: Level,
    is_own: bool,
    model: &str,
    budgets: EffortBudgets,
) -> (Option<Mode>, Option<&'static str>) {
    let version = model::version(model);
    let has_adaptive = version.map_or(is_own, |version| version >= WITH_ADAPTIVE);
    match level {
        Level::Off if model::always_thinks(model) => (None, Some(word(Effort::Low))),
        Level::Off => (Some(Mode::Disabled), None),
        Level::Dynamic if version.is_none() || has_adaptive => (Some(Mode::Adaptive), None),
        Level::Dynamic => (Some(Mode::Enabled(budgets.high)), None),
        Level::Effort(effort) if has_adaptive => (Some(Mode::Adaptive), Some(word(effort))),
        Level::Effort(effort) => (Some(Mode::Enabled(budget(effort, budgets))), None),
        Level::Budget(budget) if model::refuses_budgets(model) => {
            (Some(Mode::Adaptive), Some(word(effort(budget, budgets))))
        }
        Level::Budget(budget) => (Some(Mode::Enabled(budget)), None),
    }
}

fn word(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Max => "max",
    }
}

fn budget(effort: Effort, budgets: EffortBudgets) -> u64 {
    match effort {
        Effort::Minimal => BUDGET_MIN,
        Effort::Low => budgets.low,
        Effort::Medium => budgets.medium,
        Effort::High => budgets.high,
        Effort::Max => budgets.high.saturating_mul(2),
    }
}

fn effort(budget: u64, budgets: EffortBudgets) -> Effort {
    match budget {
        _ if budget <= budgets.low => Effort::Low,
        _ if budget <= budgets.high => Effort::Medium,
        _ => Effort::High,
    }
}

impl Thinking {
    /// Writes it.
    pub(super) fn write(&self, writer: &mut Writer<&mut Vec<u8>>) {
        let Some(mode) = self.mode else { return };
        let mut thinking = Writer::new(writer.member("thinking"));
        match mode {
            Mode::Disabled => thinking.string("type", "disabled"),
            Mode::Adaptive => thinking.string("type", "adaptive"),
            Mode::Enabled(budget) => {
                thinking.string("type", "enabled");
                thinking.plain("budget_tokens", budget);
            }
        }
        if let Some(is_shown) = self.display.filter(|_| mode != Mode::Disabled) {
            thinking.string("display", if is_shown { "summarized" } else { "omitted" });
        }
        thinking.finish();
    }
}

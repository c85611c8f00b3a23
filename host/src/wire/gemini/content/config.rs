//! `generationConfig`, both ways.

use crate::chat::{ChatRequest, Effort, Extra, Field, Format, Level, Raw, Reasoning};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::convert::{EffortBudgets, Terms};
use crate::wire::json::{Cursor, Kind, Writer, compact};

use super::tools::{raw, schema};

/// How many words may end an answer.
///
/// Source: Gemini API reference, `GenerationConfig.stopSequences`, seen 2026-11.
const STOP_COUNT_MAX: usize = 5;

/// Reads `generationConfig`; what there is no word for is put into `extra` under its name.
pub(super) fn read(value: &mut Cursor<'_, '_>, request: &mut ChatRequest) -> Result<()> {
    let (mut mime, mut format, mut rest) = (None, None, Writer::default());
    value.members(|name, value| {
        match name {
            "temperature" => request.temperature = Some(value.number()?),
            "topP" => request.top_p = Some(value.number()?),
            "topK" => request.top_k = Some(value.count()?),
            "candidateCount" => request.n = Some(value.count()?),
            "maxOutputTokens" => request.max_tokens = Some(value.count()?),
            "stopSequences" => request.stop = value.texts()?,
            "seed" => request.seed = Some(value.integer()?),
            "presencePenalty" => request.presence_penalty = Some(value.number()?),
            "frequencyPenalty" => request.frequency_penalty = Some(value.number()?),
            "responseLogprobs" => request.logprobs = Some(value.flag()?),
            "logprobs" => request.top_logprobs = Some(value.count()?),
            "thinkingConfig" => request.reasoning = reasoning(value)?,
            "responseMimeType" => mime = Some(value.text()?.into_owned()),
            "responseSchema" => format = Some(schema(value)?),
            "responseJsonSchema" if value.kind() == Some(Kind::Object) => format = Some(raw(value)?),
            "responseJsonSchema" => return Err(value.must_be("a schema")),
            _ => rest.member(name).extend_from_slice(compact(value.json()?).as_bytes()),
        }
        Ok(())
    })?;
    request.format = match (format, mime.as_deref()) {
        (Some(schema), _) => Some(Format::Schema { name: None, description: None, schema, strict: None }),
        (None, Some("application/json")) => Some(Format::Json),
        (None, Some("text/plain")) => Some(Format::Text),
        (None, Some(other)) => {
            rest.string("responseMimeType", other);
            None
        }
        (None, None) => None,
    };
    request.extra.0.extend(rest.into_raw().map(|rest| ("generationConfig".to_owned(), rest)));
    Ok(())
}

fn reasoning(value: &mut Cursor<'_, '_>) -> Result<Option<Reasoning>> {
    let (mut level, mut is_shown) = (None, None);
    value.members(|name, value| {
        match name {
            "includeThoughts" => is_shown = Some(value.flag()?),
            "thinkingBudget" => {
                level = Some(match value.integer()? {
                    0 => Level::Off,
                    budget => u64::try_from(budget).map_or(Level::Dynamic, Level::Budget),
                });
            }
            "thinkingLevel" => level = effort(value)?.or(level),
            _ => {}
        }
        Ok(())
    })?;
    if level.is_none() && is_shown.is_none() {
        return Ok(None);
    }
    Ok(Some(Reasoning { level: level.unwrap_or(Level::Dynamic), is_shown }))
}

fn effort(value: &mut Cursor<'_, '_>) -> Result<Option<Level>> {
    let word = value.text()?.to_ascii_uppercase();
    Ok(Some(Level::Effort(match &*word {
        "MINIMAL" => Effort::Minimal,
        "LOW" => Effort::Low,
        "MEDIUM" => Effort::Medium,
        "HIGH" => Effort::High,
        "XHIGH" => Effort::Max,
        "THINKING_LEVEL_UNSPECIFIED" => return Ok(None),
        _ => return Err(value.must_be("`MINIMAL`, `LOW`, `MEDIUM`, `HIGH` or `XHIGH`")),
    })))
}

/// Writes `generationConfig`, which is always there.
pub(super) fn write(request: &ChatRequest, terms: &mut Terms<'_>, out: &mut Writer) -> Result<()> {
    let is_own = request.surface == Surface::Gemini;
    let mut config = Writer::default();
    if let Some(rest) = rest(&request.extra, "generationConfig").filter(|_| is_own) {
        config.members_of(rest.get());
    }
    numbers(request, terms, &mut config)?;
    if !request.stop.is_empty() {
        if request.stop.len() > STOP_COUNT_MAX {
            terms.cannot(Field::StopCount)?;
        }
        config.strings("stopSequences", &request.stop);
    }
    if let Some(reasoning) = &request.reasoning {
        let mut thinking = thinking(reasoning, is_own, terms.budgets);
        config.member("thinkingConfig").append(&mut thinking);
    }
    match &request.format {
        None => {}
        Some(Format::Text) => config.string("responseMimeType", "text/plain"),
        Some(Format::Json) => config.string("responseMimeType", "application/json"),
        Some(Format::Schema { schema, .. }) => {
            config.string("responseMimeType", "application/json");
            config.raw("responseJsonSchema", schema.get());
        }
    }
    out.member("generationConfig").append(&mut config.finish());
    Ok(())
}

fn numbers(request: &ChatRequest, terms: &mut Terms<'_>, config: &mut Writer) -> Result<()> {
    let floats = [
        ("temperature", request.temperature),
        ("topP", request.top_p),
        ("presencePenalty", request.presence_penalty),
        ("frequencyPenalty", request.frequency_penalty),
    ];
    for (name, value) in floats {
        value.into_iter().for_each(|value| config.plain(name, value));
    }
    let counts = [
        ("topK", request.top_k),
        ("candidateCount", request.n),
        ("maxOutputTokens", request.max_tokens),
        ("logprobs", request.top_logprobs),
    ];
    for (name, value) in counts {
        value.into_iter().for_each(|value| config.plain(name, value));
    }
    if let Some(wants) = request.logprobs {
        config.plain("responseLogprobs", wants);
    }
    if let Some(seed) = request.seed {
        // Source: Gemini API reference, `GenerationConfig.seed`: an int32.
        if i32::try_from(seed).is_err() {
            terms.cannot(Field::Seed)?;
        }
        config.plain("seed", seed as i32);
    }
    Ok(())
}

/// Budgets are taken by all models that think; levels only by the newer ones, for which they are written again.
fn thinking(reasoning: &Reasoning, is_own: bool, budgets: EffortBudgets) -> Vec<u8> {
    let mut thinking = Writer::default();
    match reasoning.level {
        Level::Off => thinking.plain("thinkingBudget", 0),
        Level::Dynamic => thinking.plain("thinkingBudget", -1),
        Level::Budget(budget) => thinking.plain("thinkingBudget", i32::try_from(budget).unwrap_or(i32::MAX)),
        Level::Effort(effort) if is_own => thinking.string("thinkingLevel", level(effort)),
        Level::Effort(effort) => thinking.plain("thinkingBudget", budget(effort, budgets)),
    }
    // A client that asks for an amount of thinking can show it.
    if reasoning.is_shown.unwrap_or(reasoning.level != Level::Off) {
        thinking.plain("includeThoughts", true);
    } else if reasoning.is_shown == Some(false) {
        thinking.plain("includeThoughts", false);
    }
    thinking.finish()
}

fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High => "HIGH",
        Effort::Max => "XHIGH",
    }
}

/// The least and the most are a quarter of `low` and one and a half of `high`, which by default are the least and the most
/// that the smaller models take.
///
/// Source: Gemini API documentation, "Thinking", the ranges of `thinkingBudget`, seen 2026-11.
fn budget(effort: Effort, budgets: EffortBudgets) -> u64 {
    match effort {
        Effort::Minimal => budgets.low / 4,
        Effort::Low => budgets.low,
        Effort::Medium => budgets.medium,
        Effort::High => budgets.high,
        Effort::Max => budgets.high.saturating_add(budgets.high / 2),
    }
}

/// A further member by its name.
pub(super) fn rest<'e>(extra: &'e Extra, name: &str) -> Option<&'e Raw> {
    extra.0.iter().find(|(known, _)| known == name).map(|(_, json)| json)
}

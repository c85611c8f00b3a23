//! What is known of a model by its name.

/// The version in the name of one of Anthropic's models; none for other names and for those before 4.
///
/// From 4 on the names are `claude-FAMILY-MAJOR[-MINOR][-DATE]`, whatever stands around that at other vendors.
pub(super) fn version(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude-")?;
    let mut words = name.split(['-', '@', ':', '.', '_']);
    words.next().filter(|family| family.starts_with(|first: char| first.is_ascii_alphabetic()))?;
    // A date has eight digits.
    let mut number = || words.next().filter(|word| word.len() <= 2)?.parse().ok();
    let major: u32 = number()?;
    Some((major, number().unwrap_or_default())).filter(|(major, _)| *major >= 4)
}

/// The family in the name of one of Anthropic's models from 4 on; nothing for other names.
fn family(model: &str) -> &str {
    let name = model.split_once("claude-").map_or("", |(_, name)| name);
    name.split(['-', '@', ':', '.', '_']).next().unwrap_or_default()
}

/// Whether a model is of this version or newer; the versions of Fable are ahead of the others'.
fn is_from(model: &str, first: (u32, u32), first_fable: (u32, u32)) -> bool {
    let first = if family(model) == "fable" { first_fable } else { first };
    version(model).is_some_and(|version| version >= first)
}

/// Whether a model takes no budgets for thinking.
///
/// Source: `@ai-sdk/anthropic` 4, `getModelCapabilities`, seen 2026-11; this and what follows.
pub(super) fn refuses_budgets(model: &str) -> bool {
    is_from(model, (5, 5), (5, 0))
}

/// Whether a model cannot be told not to think.
pub(super) fn always_thinks(model: &str) -> bool {
    refuses_budgets(model) && family(model) != "haiku"
}

/// Whether a model cannot be made to call a tool.
pub(super) fn refuses_required_tools(model: &str) -> bool {
    is_from(model, (5, 5), (5, 1)) && family(model) != "haiku"
}

/// Whether a model answers after a schema; models of unknown names do.
pub(super) fn takes_schemas(model: &str) -> bool {
    let first = if family(model) == "opus" { (4, 1) } else { (4, 5) };
    version(model).map_or_else(|| !is_before_4(model), |version| version >= first)
}

/// Whether a model can think; models of unknown names can.
///
/// Source: Anthropic, "Extended thinking", "Supported models", seen 2026-11.
pub(super) fn can_think(model: &str) -> bool {
    !is_before_4(model) || model.contains("claude-3-7")
}

/// The most tokens that an answer of a model may have; none for models of unknown names and for newer ones, of which all
/// have more than anyone asks for without saying so.
///
/// Source: Anthropic, "Models overview", "Max output", seen 2026-11.
pub(super) fn output_max(model: &str) -> Option<u64> {
    is_before_4(model).then_some(match model {
        _ if model.contains("claude-3-7") => 64_000,
        _ if model.contains("claude-3-5") => 8192,
        _ => 4096,
    })
}

fn is_before_4(model: &str) -> bool {
    ["claude-3", "claude-2", "claude-v2", "claude-instant"].iter().any(|name| model.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(model: &str, expected: Option<(u32, u32)>) {
        assert_eq!(version(model), expected, "{model}");
    }

    #[test]
    fn a_version_is_read_from_the_names_that_have_one() {
        check("claude-sonnet-4-20250514", Some((4, 0)));
        check("claude-opus-4-1-20250805", Some((4, 1)));
        check("anthropic.claude-haiku-4-5-20251001-v1:0", Some((4, 5)));
        check("anthropic/claude-sonnet-4.6", Some((4, 6)));
        check("claude-opus-5", Some((5, 0)));
        check("claude-sonnet-5-5", Some((5, 5)));
        check("claude-3-5-sonnet-20241022", None);
        check("claude-2.1", None);
        check("claude-instant", None);
        check("gpt-4", None);
        check("claude-", None);
    }

    /// What refuses budgets, cannot but think, refuses required tools, takes schemas, can think; in this order, as letters.
    #[track_caller]
    fn check_traits(model: &str, traits: &str, output: Option<u64>) {
        let all = [
            ("b", refuses_budgets(model)),
            ("a", always_thinks(model)),
            ("r", refuses_required_tools(model)),
            ("s", takes_schemas(model)),
            ("t", can_think(model)),
        ];
        let found: String = all.iter().filter(|(_, has)| *has).map(|(letter, _)| *letter).collect();
        assert_eq!((&*found, output_max(model)), (traits, output), "{model}");
    }

    #[test]
    fn what_a_model_takes_is_known_by_its_name() {
        check_traits("claude-3-haiku-20240307", "", Some(4096));
        check_traits("claude-3-5-sonnet-20241022", "", Some(8192));
        check_traits("claude-3-7-sonnet-latest", "t", Some(64_000));
        check_traits("claude-2.1", "", Some(4096));
        check_traits("claude-sonnet-4-20250514", "t", None);
        check_traits("claude-opus-4-1-20250805", "st", None);
        check_traits("claude-sonnet-4-5", "st", None);
        check_traits("claude-opus-5", "st", None);
        check_traits("claude-haiku-5-5", "bst", None);
        check_traits("claude-sonnet-5-5", "barst", None);
        check_traits("anthropic.claude-opus-5-5-v1:0", "barst", None);
        check_traits("claude-fable-5", "bast", None);
        check_traits("claude-fable-5-1", "barst", None);
        check_traits("m", "st", None);
    }
}

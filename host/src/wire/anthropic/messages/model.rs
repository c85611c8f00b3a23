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
}

use std::collections::BTreeSet;

use super::parse::Tree;
use super::program::Look;
use super::*;
use crate::window::WINDOW_BYTES_MAX;

/// Finds the leftmost-longest match of a whole text.
fn find(expression: &str, text: &str) -> Option<String> {
    let regex = Regex::new(expression).unwrap();
    let mut threads = Threads::default();
    let mut before = None;
    for (at, character) in text.char_indices() {
        let found = regex.find(before, Window::new(&text[at..], true), &mut threads);
        // The start set is a filter: it may never hide a match.
        if let Ok(len) = found {
            assert!(regex.may_start(text.as_bytes()[at]), "`{expression}` at {at} of `{text}`");
            return Some(text[at..at + len].to_owned());
        }
        before = Some(character);
    }
    None
}

#[track_caller]
fn check(expression: &str, text: &str, expected: &str) {
    let expected = Some(expected.to_owned()).filter(|expected| !expected.is_empty());
    assert_eq!(find(expression, text), expected, "`{expression}` in `{text}`");
}

#[track_caller]
fn check_refused(expression: &str, message: &str) {
    assert_eq!(Regex::new(expression).map(|_| ()), Err(message.to_owned()), "`{expression}`");
}

#[test]
fn matches_are_leftmost_and_longest() {
    check("abc", "xabcabc", "abc");
    check("a|ab|abc", "xabcd", "abc");
    check("ab?", "ab", "ab");
    check("ab*", "abbbc", "abbb");
    check("ab+", "ac abb", "abb");
    check("(ab)+", "ababa", "abab");
    check("a.c", "a\nc aéc", "aéc");
    check("(a|b)c|d", "bc", "bc");
    check("x(?:y|)z", "xz", "xz");
    check("日本+", "x日本本", "日本本");
    check("abc", "ab", "");
}

#[test]
fn repetitions_are_counted() {
    check(r"\d{3}", "12 1234", "123");
    check(r"\d{2,3}", "1 12345", "123");
    check(r"\d{2,}", "1 12345", "12345");
    check("a{0}b", "ab", "b");
    check("(a{2}){2}", "aaaaa", "aaaa");
    check("(a*)*b", "aab", "aab");
    check("a{,2}b", "a{,2}b", "a{,2}b");
}

#[test]
fn classes_hold_ranges_escapes_and_their_complement() {
    check("[a-c]+", "xabcd", "abc");
    check("[^a-c]+", "abxyc", "xy");
    check(r"[\d_-]+", "a1_2-b", "1_2-");
    check("[]a]+", "x]a]", "]a]");
    check(r"[\]\\]+", r"x]\", r"]\");
    check(r"\w+\s\W", "ab !", "ab !");
    check(r"\S\D", "1a", "1a");
    check(r"\.\x41\x{e9}\t", ".Aé\t", ".Aé\t");
    check("[é-ü]", "aö", "ö");
    check("[^é]", "éa", "a");
    check("[a-]", "-", "-");
}

#[test]
fn a_flag_ignores_the_case_of_ascii() {
    check("(?i)employee-[a-f]{2}", "EMPLOYEE-aF", "EMPLOYEE-aF");
    check("(?i)[^a]", "Ab", "b");
    check("abc", "ABC", "");
}

#[test]
fn words_and_ends_are_looked_at() {
    check(r"\bcat\b", "concat cat", "cat");
    check(r"\Bcat", "cat concat", "cat");
    check("^a", "a", "a");
    check("b^a", "ba", "");
    check("b$", "abab", "b");
    check("a$", "ab", "");
    check(r"a\b", "ab a", "a");
}

#[test]
fn what_is_wrong_is_named() {
    check_refused("", "it matches the empty text");
    check_refused("a*", "it matches the empty text");
    check_refused(r"\b", "it matches the empty text");
    check_refused("(a", "`(` at 0 is not closed");
    check_refused("a)", "`)` at 1 closes nothing");
    check_refused("[a", "`[` at 0 is not closed");
    check_refused("[]", "`[` at 0 is not closed");
    check_refused("[b-a]", "the range at 1 ends before it begins");
    check_refused("[a-\\d]", "the range at 1 has no character at its end");
    check_refused("*a", "`*` at 0 repeats nothing");
    check_refused("a|+", "`+` at 2 repeats nothing");
    check_refused(r"\b+a", "`+` at 2 repeats nothing");
    check_refused("a**", "`*` at 2 repeats a repetition; put it in a group");
    check_refused("a*{2}", "`{` at 2 repeats a repetition; put it in a group");
    check_refused("a+?", "`?` at 2: lazy repetitions are not supported, matches are the longest");
    check_refused("a{3,2}", "the repetition at 1 ends before it begins");
    check_refused("a{300}", "the repetition at 1 is over 255");
    check_refused("a\\", "`\\` at 1 escapes nothing");
    check_refused(r"(a)\1", "`\\1` at 3 is not supported");
    check_refused(r"\pL", "`\\p` at 0 is not supported");
    check_refused(r"\x{110000}", "`\\x` at 0 names no character");
    check_refused(r"\xZ1", "`\\x` at 0 names no character");
    check_refused("(?=a)", "`(?=` at 0 is not supported");
    check_refused("a(?i)b", "`(?i` at 1 is not supported");
    check_refused("((a?){100}){100}", "it is larger than 2000 steps");
    check_refused(&"a".repeat(1025), "it is longer than 1024 bytes");
    check_refused(&"(".repeat(17), "`(` at 16 is more than 16 groups deep");
    check_refused(
        "a{200}a{200}a{200}",
        "it needs at least 600 bytes of text, and no more than 512 are looked at",
    );
}

#[test]
fn a_prefix_is_undecided_or_decided_as_the_whole() {
    let cases = [
        ("abc", "abcd"),
        ("a|ab|abcd", "abcx"),
        (r"\bab+\b", "abbb c"),
        ("(ab)+$", "ababab"),
        (r"id-\d+", "id-123 "),
        ("a[^b]*b", "a x y b"),
        (r"x\B", "xy"),
    ];
    for (expression, text) in cases {
        let regex = Regex::new(expression).unwrap();
        let mut threads = Threads::default();
        let whole = regex.find(None, Window::new(text, true), &mut threads);
        for at in 0..text.len() {
            let part = regex.find(None, Window::new(&text[..at], false), &mut threads);
            assert!(part == Err(Miss::Undecided) || part == whole, "`{expression}` in `{}`", &text[..at]);
        }
    }
}

#[test]
fn what_cannot_grow_is_decided_at_its_last_character() {
    let regex = Regex::new("id-[0-9]{2}").unwrap();
    assert_eq!(regex.find(None, Window::new("id-12", false), &mut Threads::default()), Ok(5));
}

#[test]
fn a_match_can_go_on_behind_the_window() {
    let regex = Regex::new("k=[a-z]+").unwrap();
    let mut threads = Threads::default();
    let text = format!("k={}", "a".repeat(600));
    assert_eq!(regex.find(None, Window::new(&text, false), &mut threads), Ok(WINDOW_BYTES_MAX));
    assert!(regex.go_on('b', &mut threads));
    assert!(!regex.go_on('1', &mut threads));
}

/// All places where a match of the tree can end that begins at `at`, by trying everything: what the threads are compared
/// with.
fn ends(tree: &Tree, text: &[char], at: usize) -> BTreeSet<usize> {
    let after = |places: &BTreeSet<usize>, tree: &Tree| -> BTreeSet<usize> {
        places.iter().flat_map(|&at| ends(tree, text, at)).collect()
    };
    match tree {
        Tree::Class(class) => {
            text.get(at).filter(|c| class.contains(**c)).map(|_| at + 1).into_iter().collect()
        }
        Tree::Look(look) => holds(*look, text, at).then_some(at).into_iter().collect(),
        Tree::Row(row) => row.iter().fold(BTreeSet::from([at]), |places, tree| after(&places, tree)),
        Tree::Choice(choices) => choices.iter().flat_map(|tree| ends(tree, text, at)).collect(),
        Tree::Repeat { tree, min, max } => {
            let mut places = BTreeSet::from([at]);
            for _ in 0..*min {
                places = after(&places, tree);
            }
            let mut all = places.clone();
            // Every further round that helps takes a character.
            for _ in *min..max.unwrap_or(min + text.len() as u32) {
                places = after(&places, tree);
                all.extend(&places);
            }
            all
        }
    }
}

fn holds(look: Look, text: &[char], at: usize) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_')
    };
    let is_edge = is_word(at.checked_sub(1)) != is_word(Some(at));
    match look {
        Look::Start => at == 0,
        Look::End => at == text.len(),
        Look::Word => is_edge,
        Look::NoWord => !is_edge,
    }
}

proptest::proptest! {
    #[test]
    fn threads_find_what_trying_everything_finds(
        expression in r"([ab]|\.|\\[bBw]|\^|\$|\||[ab][*+?]|\(a\|[ab]?\)[*+?]?|\([ab]\|b[*]\)\{1,2\}){1,5}",
        text in "[ab -]{0,8}",
    ) {
        if let Ok(regex) = Regex::new(&expression) {
            let tree = parse::parse(&expression).unwrap();
            let characters: Vec<char> = text.chars().collect();
            for at in 0..text.len() {
                let before = at.checked_sub(1).map(|at| characters[at]);
                let found = regex.find(before, Window::new(&text[at..], true), &mut Threads::default());
                let longest = ends(&tree, &characters, at).last().map(|end| end - at).ok_or(Miss::Never);
                proptest::prop_assert_eq!(found, longest, "`{}` at {} of `{}`", expression, at, text);
            }
        }
    }

    #[test]
    fn what_is_saved_inside_a_run_could_not_match(
        expression in r"[ab.][*+]([ab]|\\b|\$|-){1,3}",
        text in "[ab -]{0,10}",
    ) {
        if let Ok(regex) = Regex::new(&expression) {
            let mut before = None;
            let mut has_failed = false;
            for (at, character) in text.char_indices() {
                let found = regex.find(before, Window::new(&text[at..], true), &mut Threads::default());
                let is_saved = has_failed && before.is_some_and(|before| regex.is_inside_run(before));
                proptest::prop_assert!(!is_saved || found.is_err(), "`{}` at {} of `{}`", expression, at, text);
                has_failed = found.is_err();
                before = Some(character);
            }
        }
    }

    #[test]
    fn nothing_panics(expression in "[ab()\\[\\]|*+?{},0-9\\\\^$.dwxi:-]{0,24}", text in "[ab01é\n-]{0,24}") {
        if let Ok(regex) = Regex::new(&expression) {
            let _ = regex.find(None, Window::new(&text, true), &mut Threads::default());
        }
    }

    #[test]
    fn any_expression_decides_the_same_for_every_prefix(
        expression in "[ab.|?*+()\\\\^$]{0,10}",
        text in "[ab \n]{1,12}",
    ) {
        if let Ok(regex) = Regex::new(&expression) {
            let mut threads = Threads::default();
            let whole = regex.find(None, Window::new(&text, true), &mut threads);
            for at in 0..text.len() {
                let part = regex.find(None, Window::new(&text[..at], false), &mut threads);
                proptest::prop_assert!(part == Err(Miss::Undecided) || part == whole);
            }
        }
    }
}

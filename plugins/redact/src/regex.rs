//! Regular expressions for the patterns of an operator's own: the usual syntax, leftmost-longest matches, and an answer
//! that no engine for whole texts gives: whether text that has not come yet could still make a match.
//!
//! Why not a crate: the smallest that says so makes the component four times as large, and its compiler runs for each
//! exchange, since each has an instance of its own. This one has no tables, and reads a pattern in microseconds.

mod parse;
mod program;

use crate::window::{Miss, Window};
use program::Program;
pub(crate) use program::Threads;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Regex {
    program: Program,
    starts: program::Starts,
    /// The characters of the endless repetition that the expression begins with, if it does.
    leading: Option<program::Class>,
}

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// Says what of it is wrong, or not supported, and where.
    pub(crate) fn new(expression: &str) -> Result<Self, String> {
        let tree = parse::parse(expression)?;
        let leading = tree.leading().cloned();
        let program = Program::compile(&tree)?;
        let starts = program.starts();
        if starts.has_empty_match() {
            return Err("it matches the empty text".to_owned());
        }
        Ok(Self { program, starts, leading })
    }

    /// Says whether a match may begin with the byte, the first of a character.
    pub(crate) fn may_start(&self, byte: u8) -> bool {
        self.starts.contains(byte)
    }

    /// Says whether an attempt behind this character can be saved, the attempt in front of it having failed: what begins
    /// with `\w+` matches from the start of a word or not at all. It keeps long runs from costing their square.
    pub(crate) fn is_inside_run(&self, before: char) -> bool {
        self.leading.as_ref().is_some_and(|class| class.contains(before))
    }

    /// Returns the length of the longest match that begins where the window does, behind the character `before`.
    /// Afterwards `threads` stands at the end of the window, ready to [`Self::go_on`].
    ///
    /// # Errors
    ///
    /// `Never` if none begins there, `Undecided` if text that has not come yet could make one or make it longer.
    pub(crate) fn find(
        &self,
        before: Option<char>,
        window: Window<'_>,
        threads: &mut Threads,
    ) -> Result<usize, Miss> {
        self.program.find(before, window, threads)
    }

    /// Takes a further character; whether the expression can go on with it.
    pub(crate) fn go_on(&self, character: char, threads: &mut Threads) -> bool {
        self.program.go_on(character, threads)
    }
}

#[cfg(test)]
mod tests {
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
        check_refused(&"(".repeat(33), "`(` at 32 is more than 32 groups deep");
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

    proptest::proptest! {
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
}

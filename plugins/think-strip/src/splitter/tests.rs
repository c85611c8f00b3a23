use proptest::prelude::*;

use super::*;

/// The default of the plugin's configuration, for a mode that drops thinking.
fn rules() -> Rules {
    Rules {
        tags: vec![("<think>".to_owned(), "</think>".to_owned())],
        anywhere: false,
        unopened: false,
        unclosed: Unclosed::Thinking,
        neither: Unclosed::Answer,
        trim: true,
    }
}

fn pair(open: &str, close: &str) -> (String, String) {
    (open.to_owned(), close.to_owned())
}

/// Returns the answer and the thinking.
fn split(rules: &Rc<Rules>, pieces: &[&str]) -> (String, String) {
    let mut splitter = Splitter::new(Rc::clone(rules));
    let (mut answer, mut thinking) = (String::new(), String::new());
    let mut to = |piece: Piece<'_>| match piece {
        Piece::Answer(text) => answer.push_str(text),
        Piece::Thinking(text) => thinking.push_str(text),
    };
    for piece in pieces {
        splitter.push(piece, &mut to);
    }
    splitter.finish(&mut to);
    (answer, thinking)
}

/// Checks the answer whole, cut at every pair of places, and character by character.
#[track_caller]
fn check(rules: Rules, text: &str, answer: &str, thinking: &str) {
    let rules = Rc::new(rules);
    let expected = (answer.to_owned(), thinking.to_owned());
    assert_eq!(split(&rules, &[text]), expected, "whole");
    let cuts: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
    for (i, &a) in cuts.iter().enumerate() {
        for &b in &cuts[i..] {
            let pieces = [&text[..a], &text[a..b], &text[b..]];
            assert_eq!(split(&rules, &pieces), expected, "cut as {pieces:?}");
        }
    }
    let characters: Vec<&str> = text.split("").collect();
    assert_eq!(split(&rules, &characters), expected, "by characters");
}

// parity: 85
#[test]
fn thinking_at_the_start_is_told_apart() {
    let check = |text: &str, answer: &str, thinking: &str| check(rules(), text, answer, thinking);
    check("<think>a</think>b", "b", "a");
    check("<think></think>b", "b", "");
    check(" \n<think>a\nb</think>\n\nc\n", "c\n", "a\nb");
    check("<think>é<日本</thin</think>ü", "ü", "é<日本</thin");
    check("<think><think></think>a</think>", "a</think>", "<think>");
    check("<think>a<</think>b", "b", "a<");
}

#[test]
fn text_without_thinking_comes_through_whole() {
    for text in
        ["", "  ", "hello", "\n hello", "<thin", "<thinking>a", "日本<", "a<think>b</think>c", "</think>a"]
    {
        check(rules(), text, text, "");
    }
}

#[test]
fn tags_later_in_the_answer_stay() {
    check(rules(), "<think>a</think>b<think>c</think>", "b<think>c</think>", "a");
    check(rules(), "<think>a</think> <think>c</think>", "<think>c</think>", "a");
}

#[test]
fn unclosed_thinking_is_thinking_to_the_end() {
    check(rules(), "<think>abc", "", "abc");
    check(rules(), "<think>abc</think", "", "abc</think");
    check(rules(), "<think>", "", "");
}

#[test]
fn unclosed_thinking_is_the_answer_if_told_so() {
    let rules = || Rules { unclosed: Unclosed::Answer, ..rules() };
    check(rules(), "<think>abc", "<think>abc", "");
    check(rules(), " \n<think>abc</thin", " \n<think>abc</thin", "");
    check(rules(), "<think>a</think> b", "b", "a");
    let anywhere = || Rules { anywhere: true, ..rules() };
    check(anywhere(), "the <think> tag", "the <think> tag", "");
    check(anywhere(), "<think>a</think>b<think>c", "b<think>c", "a");
}

#[test]
fn thinking_anywhere_is_told_apart_if_told_so() {
    let rules = || Rules { anywhere: true, ..rules() };
    check(rules(), "a<think>b</think>c", "ac", "b");
    check(rules(), "a <think>b</think> c", "a  c", "b");
    check(rules(), " <think>a</think>\n<think>b</think>\nc <th d", "c <th d", "ab");
    check(rules(), "<think>a</think> <thin", "<thin", "a");
    check(rules(), "a<<think>b</think>", "a<", "b");
    check(rules(), "a<think>b", "a", "b");
    check(rules(), " a ", " a ", "");
}

#[test]
fn an_answer_may_begin_inside_thinking() {
    let rules = || Rules { unopened: true, ..rules() };
    check(rules(), "a</think>\nb", "b", "a");
    check(rules(), " a\n</think>b</think>", "b</think>", " a\n");
    check(rules(), "</think>b", "b", "");
    check(rules(), "<think>a</think>b", "b", "a");
    check(rules(), "<thin</think>b", "b", "<thin");
    check(rules(), "hello", "hello", "");
    check(rules(), "hello</thin", "hello</thin", "");
    let anywhere = || Rules { anywhere: true, ..rules() };
    check(anywhere(), "a</think>b<think>c</think>d", "bd", "ac");
    check(anywhere(), "a</think> <think>c</think> d", "d", "ac");
}

#[test]
fn thinking_without_tags_is_told_at_once_if_told_so() {
    let rules = || Rules { unopened: true, neither: Unclosed::Thinking, ..rules() };
    check(rules(), "a</think>\nb", "b", "a");
    check(rules(), "hello", "", "hello");
    let mut splitter = Splitter::new(Rc::new(rules()));
    let mut told = String::new();
    splitter.push("abc</thi", &mut |piece: Piece<'_>| match piece {
        Piece::Thinking(text) => told.push_str(text),
        Piece::Answer(text) => assert_eq!(text, ""),
    });
    assert_eq!(told, "abc");
}

#[test]
fn white_space_stays_if_told_so() {
    let rules = || Rules { trim: false, ..rules() };
    check(rules(), " <think>a</think>\n\nb", " \n\nb", "a");
    check(Rules { unclosed: Unclosed::Answer, ..rules() }, " <think> a", " <think> a", "");
    check(Rules { anywhere: true, ..rules() }, " <think>a</think> <think>b</think> c", "   c", "ab");
}

#[test]
fn any_pair_of_tags_will_do() {
    let tags = || vec![pair("<think>", "</think>"), pair("[思考]", "[/思考]"), pair("◁", "▷")];
    let rules = || Rules { tags: tags(), ..rules() };
    check(rules(), "[思考]a</think>[/思考]b", "b", "a</think>");
    check(rules(), "◁a▷b", "b", "a");
    check(Rules { anywhere: true, ..rules() }, "x◁a▷b<think>▷</think>[思", "xb[思", "a▷");
    check(Rules { unopened: true, ..rules() }, "a[/思考]b</think>", "b</think>", "a");
}

#[test]
fn the_tag_that_begins_first_counts_even_if_it_ends_later() {
    let tags = || vec![pair("<a b c>", "</>"), pair("b", "/b")];
    let rules = || Rules { tags: tags(), anywhere: true, ..rules() };
    check(rules(), "x<a b c>y</>z", "xz", "y");
    check(rules(), "x<a b y/b", "x<a ", " y");
    check(rules(), "x<a b", "x<a b", "");
}

#[test]
fn white_space_beyond_the_bound_is_the_answer() {
    let blanks = " ".repeat(BLANK_BYTES_MAX);
    check(rules(), &format!("{blanks}<think>a</think>b"), "b", "a");
    let text = format!("{blanks} <think>a</think>b");
    check(rules(), &text, &text, "");
}

#[test]
fn what_is_held_back_of_thinking_is_less_than_a_tag() {
    for rules in [rules(), Rules { unopened: true, neither: Unclosed::Thinking, ..rules() }] {
        let mut splitter = Splitter::new(Rc::new(rules));
        splitter.push("<think>", &mut |_: Piece<'_>| {});
        for _ in 0..1000 {
            splitter.push("日本</thi", &mut |_: Piece<'_>| {});
            assert!(splitter.held.len() < "</think>".len());
        }
    }
}

/// The same at the bound, whether the text comes whole, in small pieces or cut near the bound.
#[track_caller]
fn check_bound(rules: Rules, text: &str, expected: (String, String)) {
    let rules = Rc::new(rules);
    assert!(split(&rules, &[text]) == expected, "whole");
    let pieces: Vec<&str> =
        text.as_bytes().chunks(100).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    assert!(split(&rules, &pieces) == expected, "in small pieces");
    for at in HELD_BYTES_MAX - 10..text.len() {
        assert!(split(&rules, &[&text[..at], &text[at..]]) == expected, "cut at {at}");
    }
}

#[test]
fn thinking_that_is_held_back_is_bounded() {
    let (most, more) = ("a".repeat(HELD_BYTES_MAX), "a".repeat(HELD_BYTES_MAX + 1));
    let unclosed = || Rules { unclosed: Unclosed::Answer, ..rules() };
    check_bound(unclosed(), &format!("<think>{most}</think>b"), ("b".to_owned(), most.clone()));
    check_bound(unclosed(), &format!("<think>{more}b"), (String::new(), format!("{more}b")));
    let unopened = || Rules { unopened: true, ..rules() };
    check_bound(unopened(), &format!("{most}</think>b"), ("b".to_owned(), most.clone()));
    let text = format!("{more}</think>b");
    check_bound(unopened(), &text, (text.clone(), String::new()));
}

#[test]
fn done_and_idle_tell_what_may_still_come() {
    let mut splitter = Splitter::new(Rc::new(Rules { anywhere: true, ..rules() }));
    let mut push = |text: &str| {
        splitter.push(text, &mut |_: Piece<'_>| {});
        (splitter.is_idle(), splitter.is_done())
    };
    assert_eq!(push(" "), (false, false));
    assert_eq!(push("a"), (true, false));
    assert_eq!(push("<"), (false, false));
    assert_eq!(push("think>"), (false, false));
    assert_eq!(push("</think>"), (true, false));
    let mut splitter = Splitter::new(Rc::new(rules()));
    splitter.push("a", &mut |_: Piece<'_>| {});
    assert!(splitter.is_done());
}

const FRAGMENTS: [&str; 12] =
    ["<think>", "</think>", "<", "</", "think>", " ", "\n", "a", "é", "[[", "]]", "<think"];

proptest! {
    #[test]
    fn any_cut_of_any_text_gives_the_same(
        pieces in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..16),
        flags in any::<[bool; 5]>(),
    ) {
        let unclosed = |is_answer| if is_answer { Unclosed::Answer } else { Unclosed::Thinking };
        let rules = Rc::new(Rules {
            tags: vec![pair("<think>", "</think>"), pair("[[", "]]")],
            anywhere: flags[0],
            unopened: flags[1],
            unclosed: unclosed(flags[2]),
            neither: unclosed(flags[3]),
            trim: flags[4],
        });
        let text = pieces.concat();
        let whole = split(&rules, &[&text]);
        prop_assert_eq!(&split(&rules, &pieces), &whole);
        prop_assert_eq!(&split(&rules, &text.split("").collect::<Vec<_>>()), &whole);
    }
}

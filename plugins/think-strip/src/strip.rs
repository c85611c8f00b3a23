//! Finds `<think>…</think>` at the start of one answer, however its text is cut. Knows nothing of plugins.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How much white space may precede the tag. More is taken for the answer itself, so that little is ever held back.
const BLANK_BYTES_MAX: usize = 256;

/// Takes the thinking off one answer, piece by piece.
///
/// White space before and after the thinking goes with it; without thinking every byte comes through. Thinking
/// that is never closed is dropped to the end.
#[derive(Default)]
pub(crate) struct Stripper {
    place: Place,
    /// Text that the next piece decides about: shorter than a tag and its leading white space.
    held: String,
}

/// Where in the answer the next byte stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeTag,
    Thinking,
    AfterTag,
    Answer,
}

impl Stripper {
    /// Appends to `out` what of `text`, and of what was held back before, belongs to the answer.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) {
        if self.is_done() {
            return out.push_str(text);
        }
        self.held.push_str(text);
        if self.place == Place::BeforeTag {
            self.look_for_tag(out);
        }
        if self.place == Place::Thinking {
            self.skip_thinking();
        }
        if self.place == Place::AfterTag {
            self.skip_blanks(out);
        }
    }

    /// Appends what was held back only to see whether it would become a tag.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if self.place == Place::BeforeTag {
            self.release(0, out);
        }
    }

    /// Says whether all further text is the answer's.
    pub(crate) fn is_done(&self) -> bool {
        self.place == Place::Answer
    }

    fn look_for_tag(&mut self, out: &mut String) {
        let trimmed = self.held.trim_start();
        let blanks = self.held.len() - trimmed.len();
        if blanks > BLANK_BYTES_MAX {
            self.release(0, out);
        } else if trimmed.starts_with(OPEN) {
            self.held.drain(..blanks + OPEN.len());
            self.place = Place::Thinking;
        } else if !OPEN.starts_with(trimmed) {
            self.release(0, out);
        }
    }

    fn skip_thinking(&mut self) {
        if let Some(at) = self.held.find(CLOSE) {
            self.held.drain(..at + CLOSE.len());
            self.place = Place::AfterTag;
        } else {
            // A closing tag that is cut has at most one byte less than the whole.
            let tail = self.held.len().saturating_sub(CLOSE.len() - 1);
            self.held.drain(..self.held.ceil_char_boundary(tail));
        }
    }

    fn skip_blanks(&mut self, out: &mut String) {
        let blanks = self.held.len() - self.held.trim_start().len();
        if blanks < self.held.len() {
            self.release(blanks, out);
        } else {
            self.held.clear();
        }
    }

    fn release(&mut self, from: usize, out: &mut String) {
        out.push_str(&self.held[from..]);
        self.held = String::new();
        self.place = Place::Answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(pieces: &[&str]) -> String {
        let mut stripper = Stripper::default();
        let mut out = String::new();
        for piece in pieces {
            stripper.push(piece, &mut out);
        }
        stripper.finish(&mut out);
        out
    }

    /// Checks the answer whole, cut at every pair of places, and character by character.
    #[track_caller]
    fn check(answer: &str, expected: &str) {
        assert_eq!(strip(&[answer]), expected, "whole");
        let cuts: Vec<usize> = (0..=answer.len()).filter(|&at| answer.is_char_boundary(at)).collect();
        for (i, &a) in cuts.iter().enumerate() {
            for &b in &cuts[i..] {
                let pieces = [&answer[..a], &answer[a..b], &answer[b..]];
                assert_eq!(strip(&pieces), expected, "cut as {pieces:?}");
            }
        }
        let characters: Vec<&str> = answer.split("").collect();
        assert_eq!(strip(&characters), expected, "by characters");
    }

    // parity: 85
    #[test]
    fn thinking_at_the_start_goes() {
        check("<think>a</think>b", "b");
        check("<think></think>b", "b");
        check(" \n<think>a\nb</think>\n\nc\n", "c\n");
        check("<think>é<日本</thin</think>ü", "ü");
        check("<think><think></think>a</think>", "a</think>");
    }

    #[test]
    fn text_without_thinking_comes_through_whole() {
        check("", "");
        check("  ", "  ");
        check("hello", "hello");
        check("\n hello", "\n hello");
        check("<thin", "<thin");
        check("<thinking>a", "<thinking>a");
        check("日本<", "日本<");
    }

    #[test]
    fn tags_later_in_the_answer_stay() {
        check("a<think>b</think>c", "a<think>b</think>c");
        check("<think>a</think>b<think>c</think>", "b<think>c</think>");
        check("</think>a", "</think>a");
    }

    #[test]
    fn thinking_that_is_not_closed_goes_to_the_end() {
        check("<think>abc", "");
        check("<think>abc</think", "");
    }

    #[test]
    fn white_space_beyond_the_bound_is_the_answer() {
        let blanks = " ".repeat(BLANK_BYTES_MAX);
        check(&format!("{blanks}<think>a</think>b"), "b");
        let answer = format!("{blanks} <think>a</think>b");
        check(&answer, &answer);
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut stripper = Stripper::default();
        let mut out = String::new();
        stripper.push("<think>", &mut out);
        for _ in 0..1000 {
            stripper.push("日本</thi", &mut out);
            assert!(stripper.held.len() < CLOSE.len());
        }
        assert_eq!(out, "");
    }
}

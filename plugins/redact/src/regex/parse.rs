//! Reads the text of an expression as a tree.

use super::program::{Class, Look};

const EXPRESSION_BYTES_MAX: usize = 1024;
/// Reading goes one call deeper for each, and a component has a stack of 64 KiB.
const GROUPS_DEEP_MAX: usize = 16;
const REPETITION_MAX: u32 = 255;

/// An expression.
#[derive(Debug)]
pub(super) enum Tree {
    Class(Class),
    Look(Look),
    /// One after the other; none is the empty text.
    Row(Vec<Self>),
    /// One or the other.
    Choice(Vec<Self>),
    Repeat {
        tree: Box<Self>,
        min: u32,
        max: Option<u32>,
    },
}

impl Tree {
    /// Returns the class whose endless repetition the expression begins with, if it begins so.
    pub(super) fn leading(&self) -> Option<&Class> {
        match self {
            Self::Row(row) => row.first()?.leading(),
            Self::Repeat { tree, min: 0 | 1, max: None } => match tree.as_ref() {
                Self::Class(class) => Some(class),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Reads an expression.
///
/// # Errors
///
/// Says what is wrong with it, and at which byte.
pub(super) fn parse(expression: &str) -> Result<Tree, String> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("it is longer than {EXPRESSION_BYTES_MAX} bytes"));
    }
    let ignores_case = expression.starts_with("(?i)");
    let mut parser =
        Parser { text: expression, at: if ignores_case { 4 } else { 0 }, ignores_case, depth: 0 };
    let tree = parser.choice()?;
    match parser.peek() {
        None => Ok(tree),
        Some(_) => Err(format!("`)` at {} closes nothing", parser.at)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    ignores_case: bool,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_there = self.text[self.at..].starts_with(text);
        if is_there {
            self.at += text.len();
        }
        is_there
    }

    fn class(&self, class: Class) -> Tree {
        Tree::Class(if self.ignores_case { class.ignoring_case() } else { class })
    }

    /// Reads up to the end or a closing bracket.
    fn choice(&mut self) -> Result<Tree, String> {
        let first = self.row()?;
        if self.peek() != Some('|') {
            return Ok(first);
        }
        let mut choices = vec![first];
        while self.eat("|") {
            choices.push(self.row()?);
        }
        Ok(Tree::Choice(choices))
    }

    fn row(&mut self) -> Result<Tree, String> {
        let mut row = Vec::new();
        while !matches!(self.peek(), None | Some('|' | ')')) {
            let piece = self.piece()?;
            row.push(self.repeated(piece)?);
        }
        Ok(Tree::Row(row))
    }

    fn piece(&mut self) -> Result<Tree, String> {
        let from = self.at;
        match self.next() {
            Some('(') => self.group(from),
            Some('[') => self.brackets(from),
            Some('\\') => self.escape(from),
            Some('.') => Ok(Tree::Class(Class::line())),
            Some('^') => Ok(Tree::Look(Look::Start)),
            Some('$') => Ok(Tree::Look(Look::End)),
            Some(sign @ ('*' | '+' | '?')) => Err(format!("`{sign}` at {from} repeats nothing")),
            Some(character) => Ok(self.class(Class::of(character))),
            None => Ok(Tree::Row(Vec::new())),
        }
    }

    fn group(&mut self, from: usize) -> Result<Tree, String> {
        if self.peek() == Some('?') && !self.eat("?:") {
            let kind: String = self.text[from..].chars().take(3).collect();
            return Err(format!("`{kind}` at {from} is not supported"));
        }
        if self.depth == GROUPS_DEEP_MAX {
            return Err(format!("`(` at {from} is more than {GROUPS_DEEP_MAX} groups deep"));
        }
        self.depth += 1;
        let tree = self.choice()?;
        self.depth -= 1;
        if self.eat(")") { Ok(tree) } else { Err(format!("`(` at {from} is not closed")) }
    }

    fn repeated(&mut self, tree: Tree) -> Result<Tree, String> {
        let from = self.at;
        let Some((min, max)) = self.repetition()? else {
            return Ok(tree);
        };
        let sign = self.text[from..].chars().next().unwrap_or_default();
        if matches!(tree, Tree::Look(_)) {
            return Err(format!("`{sign}` at {from} repeats nothing"));
        }
        let second = self.at;
        match (self.peek(), self.repetition()?) {
            (_, None) => Ok(Tree::Repeat { tree: Box::new(tree), min, max }),
            (Some('?'), _) => {
                Err(format!("`?` at {second}: lazy repetitions are not supported, matches are the longest"))
            }
            (sign, _) => {
                let sign = sign.unwrap_or_default();
                Err(format!("`{sign}` at {second} repeats a repetition; put it in a group"))
            }
        }
    }

    /// Reads how often, if it is said. A brace that counts nothing stands for itself.
    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let from = self.at;
        let (min, max) = if self.eat("*") {
            (0, None)
        } else if self.eat("+") {
            (1, None)
        } else if self.eat("?") {
            (0, Some(1))
        } else if self.eat("{") {
            match self.counts() {
                Some(counts) => counts,
                None => {
                    self.at = from;
                    return Ok(None);
                }
            }
        } else {
            return Ok(None);
        };
        if min.max(max.unwrap_or(0)) > REPETITION_MAX {
            return Err(format!("the repetition at {from} is over {REPETITION_MAX}"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(format!("the repetition at {from} ends before it begins"));
        }
        Ok(Some((min, max)))
    }

    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let min = self.number()?;
        let max = if self.eat(",") { self.number() } else { Some(min) };
        self.eat("}").then_some((min, max))
    }

    fn number(&mut self) -> Option<u32> {
        let digits = self.text[self.at..].bytes().take_while(u8::is_ascii_digit).count();
        let number = &self.text[self.at..self.at + digits];
        self.at += digits;
        if number.is_empty() { None } else { Some(number.parse().unwrap_or(u32::MAX)) }
    }

    fn escape(&mut self, from: usize) -> Result<Tree, String> {
        match self.peek() {
            Some('b') => self.look(Look::Word),
            Some('B') => self.look(Look::NoWord),
            _ => Ok(match self.escaped(from)? {
                Escaped::Class(class) => Tree::Class(class),
                Escaped::Character(character) => self.class(Class::of(character)),
            }),
        }
    }

    fn look(&mut self, look: Look) -> Result<Tree, String> {
        self.next();
        Ok(Tree::Look(look))
    }

    /// Reads what is behind a backslash, inside brackets or outside.
    fn escaped(&mut self, from: usize) -> Result<Escaped, String> {
        let Some(letter) = self.next() else {
            return Err(format!("`\\` at {from} escapes nothing"));
        };
        Ok(match letter {
            'd' => Escaped::Class(Class::digit()),
            'D' => Escaped::Class(Class::digit().inverted()),
            'w' => Escaped::Class(Class::word()),
            'W' => Escaped::Class(Class::word().inverted()),
            's' => Escaped::Class(Class::space()),
            'S' => Escaped::Class(Class::space().inverted()),
            'n' => Escaped::Character('\n'),
            'r' => Escaped::Character('\r'),
            't' => Escaped::Character('\t'),
            'x' => Escaped::Character(
                self.hexadecimal().ok_or_else(|| format!("`\\x` at {from} names no character"))?,
            ),
            _ if letter.is_ascii_alphanumeric() => {
                return Err(format!("`\\{letter}` at {from} is not supported"));
            }
            _ => Escaped::Character(letter),
        })
    }

    /// Reads the two digits behind `\x`, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let (digits, len) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}').map(|(digits, _)| (digits, digits.len() + 2))?,
            None => (rest.get(..2)?, 2),
        };
        self.at += len;
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal).and_then(char::from_u32)
    }

    /// Reads the rest of a class. A bracket that closes right at its beginning stands for itself.
    fn brackets(&mut self, from: usize) -> Result<Tree, String> {
        let is_inverted = self.eat("^");
        let mut class = Class::default();
        let first = self.at;
        loop {
            let at = self.at;
            match self.next() {
                None => return Err(format!("`[` at {from} is not closed")),
                Some(']') if at > first => break,
                Some(character) => self.member(at, character, &mut class)?,
            }
        }
        let class = if self.ignores_case { class.ignoring_case() } else { class };
        Ok(Tree::Class(if is_inverted { class.inverted() } else { class }))
    }

    /// Reads one character, range or escape of a class.
    fn member(&mut self, at: usize, character: char, class: &mut Class) -> Result<(), String> {
        let first = match character {
            '\\' => match self.escaped(at)? {
                Escaped::Class(other) => {
                    class.add(&other);
                    return Ok(());
                }
                Escaped::Character(character) => character,
            },
            _ => character,
        };
        // A hyphen in front of the closing bracket stands for itself.
        let rest = &self.text[self.at..];
        if !rest.starts_with('-') || rest.starts_with("-]") {
            class.add_range(first, first);
            return Ok(());
        }
        self.next();
        let end = self.at;
        let last = match self.next() {
            Some('\\') => match self.escaped(end)? {
                Escaped::Class(_) => return Err(format!("the range at {at} has no character at its end")),
                Escaped::Character(character) => character,
            },
            Some(character) => character,
            None => return Ok(()),
        };
        if last < first {
            return Err(format!("the range at {at} ends before it begins"));
        }
        class.add_range(first, last);
        Ok(())
    }
}

/// What a backslash and a letter stand for.
enum Escaped {
    Class(Class),
    Character(char),
}

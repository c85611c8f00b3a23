//! The expression as a list of steps, and the threads that run through it all at once: time is bounded by steps times
//! characters, whatever the expression.

use super::parse::Tree;
use crate::window::{Edge, Miss, WINDOW_BYTES_MAX, Window};

/// How large an expression may become once its repetitions are written out.
const STEPS_MAX: usize = 2000;

/// A set of characters, as ranges.
#[derive(Clone, Debug, Default)]
pub(super) struct Class(Vec<(char, char)>);

impl Class {
    pub(super) fn of(character: char) -> Self {
        Self(vec![(character, character)])
    }

    pub(super) fn digit() -> Self {
        Self(vec![('0', '9')])
    }

    pub(super) fn word() -> Self {
        Self(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')])
    }

    pub(super) fn space() -> Self {
        Self(vec![('\t', '\r'), (' ', ' ')])
    }

    /// All but the line feed.
    pub(super) fn line() -> Self {
        Self::of('\n').inverted()
    }

    pub(super) fn add_range(&mut self, first: char, last: char) {
        self.0.push((first, last));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Adds the other case of the ASCII letters in it.
    pub(super) fn ignoring_case(mut self) -> Self {
        for at in 0..self.0.len() {
            let (first, last) = self.0[at];
            let mut add = |from: char, to: char, other: fn(&char) -> char| {
                let (first, last) = (first.max(from), last.min(to));
                if first <= last {
                    self.0.push((other(&first), other(&last)));
                }
            };
            add('a', 'z', char::to_ascii_uppercase);
            add('A', 'Z', char::to_ascii_lowercase);
        }
        self
    }

    /// Returns the set of all other characters.
    pub(super) fn inverted(self) -> Self {
        let mut others = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some('\0');
        // Looking for the next range each time takes no sorting, whose code would be a twentieth of the component.
        while let Some(from) = next {
            let ahead = self.0.iter().filter(|(_, last)| *last >= from).min();
            let Some(&(first, last)) = ahead else {
                others.push((from, char::MAX));
                break;
            };
            others.extend((from..first).next_back().map(|to| (from, to)));
            next = (last..=char::MAX).nth(1);
        }
        Self(others)
    }

    pub(super) fn contains(&self, character: char) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&character))
    }
}

/// A condition on the place between two characters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    Start,
    End,
    /// A word begins or ends here.
    Word,
    /// None does.
    NoWord,
}

impl Look {
    fn holds(self, before: Option<char>, next: Next) -> bool {
        let is_edge = || {
            let next = matches!(next, Next::Character(character) if is_word(character));
            before.is_some_and(is_word) != next
        };
        match (self, next) {
            (_, Next::Anything) => true,
            (_, Next::Unknown) => false,
            (Self::Start, _) => before.is_none(),
            (Self::End, _) => matches!(next, Next::Nothing),
            (Self::Word, _) => is_edge(),
            (Self::NoWord, _) => !is_edge(),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// What stands behind the place that is looked at.
#[derive(Clone, Copy)]
enum Next {
    Character(char),
    Nothing,
    /// Text that is not seen: no condition on it holds.
    Unknown,
    /// For the question what is possible at all: every condition holds.
    Anything,
}

#[derive(Debug)]
enum Step {
    Class(Class),
    Look(Look),
    /// Goes on at the next step and at this one.
    Fork(usize),
    Jump(usize),
    Match,
}

/// The steps of an expression.
#[derive(Debug)]
pub(super) struct Program(Vec<Step>);

/// The bytes that can begin a match: the ASCII ones each, the others together.
#[derive(Debug, Default)]
pub(super) struct Starts {
    ascii: u128,
    has_others: bool,
    has_empty: bool,
}

impl Starts {
    pub(super) fn contains(&self, byte: u8) -> bool {
        if byte.is_ascii() { self.ascii >> byte & 1 != 0 } else { self.has_others }
    }

    pub(super) fn has_empty_match(&self) -> bool {
        self.has_empty
    }
}

/// The places an expression is at, all at once; kept for the next run, so that its buffers are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads {
    /// Where threads stand before conditions are looked at.
    places: Vec<usize>,
    /// The classes they lead to, and whether a match.
    classes: Vec<usize>,
    has_match: bool,
    has_look: bool,
    /// The round in which a step was last visited.
    visited: Vec<u64>,
    round: u64,
    before: Option<char>,
}

impl Program {
    pub(super) fn compile(tree: &Tree) -> Result<Self, String> {
        let needed = bytes_min(tree);
        if needed > WINDOW_BYTES_MAX {
            return Err(format!(
                "it needs at least {needed} bytes of text, and no more than {WINDOW_BYTES_MAX} are looked at"
            ));
        }
        let mut program = Self(Vec::new());
        program.add(tree)?;
        program.push(Step::Match)?;
        Ok(program)
    }

    fn push(&mut self, step: Step) -> Result<usize, String> {
        if self.0.len() == STEPS_MAX {
            return Err(format!("it is larger than {STEPS_MAX} steps"));
        }
        self.0.push(step);
        Ok(self.0.len() - 1)
    }

    fn add(&mut self, tree: &Tree) -> Result<(), String> {
        match tree {
            Tree::Class(class) => self.push(Step::Class(class.clone())).map(drop),
            Tree::Look(look) => self.push(Step::Look(*look)).map(drop),
            Tree::Row(row) => row.iter().try_for_each(|tree| self.add(tree)),
            Tree::Choice(choices) => self.add_choice(choices),
            Tree::Repeat { tree, min, max } => self.add_repeat(tree, *min, *max),
        }
    }

    fn add_choice(&mut self, choices: &[Tree]) -> Result<(), String> {
        let (last, others) = choices.split_last().expect("a choice has two trees at least");
        let mut jumps = Vec::with_capacity(others.len());
        for tree in others {
            let fork = self.push(Step::Fork(0))?;
            self.add(tree)?;
            jumps.push(self.push(Step::Jump(0))?);
            self.0[fork] = Step::Fork(self.0.len());
        }
        self.add(last)?;
        for jump in jumps {
            self.0[jump] = Step::Jump(self.0.len());
        }
        Ok(())
    }

    fn add_repeat(&mut self, tree: &Tree, min: u32, max: Option<u32>) -> Result<(), String> {
        for _ in 0..min {
            let from = self.0.len();
            self.add(tree)?;
            // The empty text is the same however often; counting it could take for ever.
            if self.0.len() == from {
                return Ok(());
            }
        }
        match max {
            None => {
                let fork = self.push(Step::Fork(0))?;
                self.add(tree)?;
                self.push(Step::Jump(fork))?;
                self.0[fork] = Step::Fork(self.0.len());
            }
            Some(max) => {
                let mut forks = Vec::new();
                for _ in min..max {
                    forks.push(self.push(Step::Fork(0))?);
                    self.add(tree)?;
                }
                for fork in forks {
                    self.0[fork] = Step::Fork(self.0.len());
                }
            }
        }
        Ok(())
    }

    pub(super) fn starts(&self) -> Starts {
        let mut threads = Threads::default();
        self.begin(None, &mut threads);
        self.spread(Next::Anything, &mut threads);
        let mut starts = Starts { has_empty: threads.has_match, ..Starts::default() };
        for &at in &threads.classes {
            let Step::Class(class) = &self.0[at] else { continue };
            for &(first, last) in &class.0 {
                starts.has_others |= !last.is_ascii();
                for byte in first..=last.min('\x7f') {
                    starts.ascii |= 1 << u32::from(byte);
                }
            }
        }
        starts
    }

    pub(super) fn find(
        &self,
        before: Option<char>,
        window: Window<'_>,
        threads: &mut Threads,
    ) -> Result<usize, Miss> {
        self.begin(before, threads);
        let mut longest = Err(Miss::Never);
        for (at, character) in window.text().char_indices() {
            self.spread(Next::Character(character), threads);
            if threads.has_match {
                longest = Ok(at);
            }
            if !self.step(character, threads) {
                return longest;
            }
        }
        let next = if window.edge() == Edge::End { Next::Nothing } else { Next::Unknown };
        self.spread(next, threads);
        let can_grow = threads.has_look || !threads.classes.is_empty();
        if window.edge() == Edge::Open && can_grow {
            return Err(Miss::Undecided);
        }
        if threads.has_match { Ok(window.text().len()) } else { longest }
    }

    pub(super) fn go_on(&self, character: char, threads: &mut Threads) -> bool {
        self.spread(Next::Character(character), threads);
        self.step(character, threads)
    }

    fn begin(&self, before: Option<char>, threads: &mut Threads) {
        threads.visited.resize(self.0.len(), 0);
        threads.places.clear();
        threads.places.push(0);
        threads.before = before;
    }

    /// Follows forks and conditions from where the threads stand to the classes that take the next character. The places
    /// stay, so that the same can be asked again once more text is known.
    fn spread(&self, next: Next, threads: &mut Threads) {
        let Threads { places, classes, visited, .. } = threads;
        threads.round += 1;
        threads.has_match = false;
        threads.has_look = false;
        classes.clear();
        // A stack of its own: a component has little, and forks can follow each other by the hundred.
        let count = places.len();
        let mut from = 0;
        loop {
            let place = if places.len() > count {
                places.pop()
            } else {
                from += 1;
                places[..count].get(from - 1).copied()
            };
            let Some(at) = place else { break };
            if visited[at] == threads.round {
                continue;
            }
            visited[at] = threads.round;
            match &self.0[at] {
                Step::Class(_) => classes.push(at),
                Step::Match => threads.has_match = true,
                Step::Jump(to) => places.push(*to),
                Step::Fork(to) => places.extend([*to, at + 1]),
                Step::Look(look) => {
                    threads.has_look = true;
                    if look.holds(threads.before, next) {
                        places.push(at + 1);
                    }
                }
            }
        }
    }

    /// Takes the character with the classes that have it; whether any has.
    fn step(&self, character: char, threads: &mut Threads) -> bool {
        let Threads { places, classes, before, .. } = threads;
        places.clear();
        places.extend(classes.iter().filter_map(|&at| match &self.0[at] {
            Step::Class(class) if class.contains(character) => Some(at + 1),
            _ => None,
        }));
        *before = Some(character);
        !places.is_empty()
    }
}

/// The bytes of the shortest text an expression can match, counting each character as one.
fn bytes_min(tree: &Tree) -> usize {
    match tree {
        Tree::Class(_) => 1,
        Tree::Look(_) => 0,
        Tree::Row(row) => row.iter().map(bytes_min).fold(0, usize::saturating_add),
        Tree::Choice(choices) => choices.iter().map(bytes_min).min().unwrap_or(0),
        Tree::Repeat { tree, min, .. } => bytes_min(tree).saturating_mul(*min as usize),
    }
}

//! Takes thinking such as `<think>…</think>` out of an answer's content, or moves it to the reasoning; of a stream and of
//! a whole answer alike.
//!
//! The host lets the answer go (`detach`) as soon as every choice is past its thinking. Where thinking may stand anywhere
//! it sleeps instead until an opening tag comes.

mod settings;
mod splitter;

use std::cell::Cell;
use std::rc::Rc;

use settings::{Mode, Settings};
use splitter::{Piece, Rules, Splitter};
use witgate_sdk::{
    Call, Channel, Finish, Lanes, Opened, Out, Plugin, Rejection, StreamText, TextBatch, TextFilter,
    TextStream, Verdict, Wake, export,
};

struct ThinkStrip {
    mode: Mode,
    rules: Rc<Rules>,
}

export!(ThinkStrip: StreamText);

impl Plugin for ThinkStrip {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { mode: settings.mode, rules: Rc::new(settings.into_rules()?) })
    }
}

impl StreamText for ThinkStrip {
    type Stream = Answer;

    fn open(&self, call: &Call) -> Option<Opened<Answer>> {
        if self.mode == Mode::Keep {
            return None;
        }
        let choices = call.choices();
        // The answers of other operations have no place for reasoning.
        let has_reasoning = call.operation() == "chat.completions";
        let census = Rc::new(Census::default());
        let answer = Answer {
            lanes: Lanes::new(self.filters(&census, has_reasoning)).expecting(choices),
            rules: Rc::clone(&self.rules),
            choices,
            census,
            is_asleep: false,
        };
        Some(Opened::new(answer))
    }
}

impl ThinkStrip {
    fn filters(&self, census: &Rc<Census>, has_reasoning: bool) -> impl Fn(Channel) -> Filter + 'static {
        let (rules, census) = (Rc::clone(&self.rules), Rc::clone(census));
        let moves_thinking = self.mode == Mode::Reasoning && has_reasoning;
        move |_| {
            census.begun.set(census.begun.get() + 1);
            census.busy.set(census.busy.get() + 1);
            Filter {
                splitter: Splitter::new(Rc::clone(&rules)),
                moves_thinking,
                census: Rc::clone(&census),
                is_busy: true,
            }
        }
    }
}

/// One answer on its way to the client.
struct Answer {
    lanes: Lanes<Filter>,
    rules: Rc<Rules>,
    choices: usize,
    census: Rc<Census>,
    is_asleep: bool,
}

/// How many choices have begun, and how many of them have to see every piece of their text.
#[derive(Default)]
struct Census {
    begun: Cell<usize>,
    busy: Cell<usize>,
}

impl TextStream for Answer {
    fn push(&mut self, batch: TextBatch) -> Result<Verdict, Rejection> {
        let verdict = self.lanes.push(batch)?;
        let may_sleep = self.census.begun.get() >= self.choices && self.census.busy.get() == 0;
        if may_sleep == self.is_asleep {
            return Ok(verdict);
        }
        self.is_asleep = may_sleep;
        let wake = if may_sleep { Wake::on(self.rules.opening()) } else { Wake::EveryBatch };
        Ok(verdict.wake(wake))
    }

    fn finish(&mut self, reason: Finish) -> Result<Verdict, Rejection> {
        self.lanes.finish(reason)
    }
}

/// The content of one choice.
struct Filter {
    splitter: Splitter,
    /// Whether thinking becomes reasoning, and is not dropped.
    moves_thinking: bool,
    census: Rc<Census>,
    is_busy: bool,
}

impl TextFilter for Filter {
    fn push(&mut self, text: &str, out: &mut Out) {
        let moves_thinking = self.moves_thinking;
        self.splitter.push(text, &mut |piece: Piece<'_>| write(piece, moves_thinking, out));
        let is_busy = !self.splitter.is_idle();
        if is_busy != self.is_busy {
            let busy = self.census.busy.get();
            self.census.busy.set(if is_busy { busy + 1 } else { busy - 1 });
            self.is_busy = is_busy;
        }
    }

    fn finish(&mut self, out: &mut Out) {
        let moves_thinking = self.moves_thinking;
        self.splitter.finish(&mut |piece: Piece<'_>| write(piece, moves_thinking, out));
    }

    fn is_done(&self) -> bool {
        self.splitter.is_done()
    }
}

fn write(piece: Piece<'_>, moves_thinking: bool, out: &mut Out) {
    match piece {
        Piece::Answer(text) => out.push_str(text),
        Piece::Thinking(text) if moves_thinking => out.push_to(Channel::Reasoning, text),
        Piece::Thinking(_) => {}
    }
}

#[cfg(test)]
mod tests;

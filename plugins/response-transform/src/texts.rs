//! The text of one answer, in which literals are replaced.

use std::cell::Cell;
use std::rc::Rc;

use witgate_sdk::{
    Channel, Finish, Lanes, Opened, Out, Rejection, TextBatch, TextFilter, TextStream, Verdict, Wake,
};

use crate::replace::{Literal, Literals, Replacer};

/// All text of one answer.
pub(crate) struct Texts {
    lanes: Lanes<Lane>,
    /// What the host wakes the plugin for.
    finds: Vec<String>,
    /// How many lanes hold text back.
    holding: Rc<Cell<usize>>,
    is_awake: bool,
}

impl Texts {
    /// Begins an answer in which these are replaced; none if there are none.
    pub(crate) fn open(literals: Vec<(Channel, Literal)>) -> Option<Opened<Self>> {
        if literals.is_empty() {
            return None;
        }
        let mut channels: Vec<Channel> = Vec::new();
        for (channel, _) in &literals {
            if !channels.contains(channel) {
                channels.push(*channel);
            }
        }
        let finds: Vec<String> = literals.iter().map(|(_, literal)| literal.find.clone()).collect();
        let holding = Rc::new(Cell::new(0));
        let lanes = Lanes::new(lanes(&channels, literals, Rc::clone(&holding)));
        let wake = Wake::on(finds.clone());
        Some(Opened::new(Self { lanes, finds, holding, is_awake: false }).wake(wake).channels(channels))
    }
}

/// Makes a lane's filter by its channel.
fn lanes(
    channels: &[Channel],
    literals: Vec<(Channel, Literal)>,
    holding: Rc<Cell<usize>>,
) -> impl Fn(Channel) -> Lane + use<> {
    let of_channel = |channel: &Channel| {
        let own = literals.iter().filter(|(other, _)| other == channel).map(|(_, literal)| literal.clone());
        (*channel, Rc::new(Literals::new(own.collect())))
    };
    let by_channel: Vec<(Channel, Rc<Literals>)> = channels.iter().map(of_channel).collect();
    move |channel| {
        let found = by_channel.iter().find(|(other, _)| *other == channel);
        let literals =
            found.map_or_else(|| Rc::new(Literals::new(Vec::new())), |(_, literals)| Rc::clone(literals));
        Lane { replacer: Replacer::new(literals), holding: Rc::clone(&holding) }
    }
}

impl TextStream for Texts {
    fn push(&mut self, batch: TextBatch) -> Result<Verdict, Rejection> {
        let verdict = self.lanes.push(batch)?;
        // What follows text that is held back must come here too, or it would overtake it.
        let must_wake = self.holding.get() > 0;
        if must_wake == self.is_awake {
            return Ok(verdict);
        }
        self.is_awake = must_wake;
        Ok(verdict.wake(if must_wake { Wake::EveryBatch } else { Wake::on(self.finds.iter().cloned()) }))
    }

    fn finish(&mut self, reason: Finish) -> Result<Verdict, Rejection> {
        self.lanes.finish(reason)
    }
}

/// One text: that of a choice, a channel and a tool call.
struct Lane {
    replacer: Replacer,
    holding: Rc<Cell<usize>>,
}

impl Lane {
    fn count(&self, was_holding: bool) {
        let others = self.holding.get() - usize::from(was_holding);
        self.holding.set(others + usize::from(self.replacer.is_holding()));
    }
}

impl TextFilter for Lane {
    fn push(&mut self, text: &str, out: &mut Out) {
        let was_holding = self.replacer.is_holding();
        self.replacer.take(text, |text| out.push_str(text));
        self.count(was_holding);
    }

    fn finish(&mut self, out: &mut Out) {
        self.replacer.end(|text| out.push_str(text));
    }
}

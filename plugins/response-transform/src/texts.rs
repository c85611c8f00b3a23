//! The text of one answer, in which literals are replaced.

use std::rc::Rc;

use witgate_sdk::{Channel, Lanes, Opened, Out, TextFilter};

use crate::replace::{Literal, Literals, Replacer};

/// Begins an answer in which these are replaced, asleep until one turns up; none if there are none.
pub(crate) fn open(literals: Vec<(Channel, Literal)>) -> Option<Opened<Lanes<Replacer>>> {
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
    let lanes = Lanes::new(replacers(&channels, &literals));
    Some(lanes.asleep_until(finds).channels(channels))
}

/// Makes the filter of a text by its channel.
fn replacers(channels: &[Channel], literals: &[(Channel, Literal)]) -> impl Fn(Channel) -> Replacer + use<> {
    let of_channel = |channel: &Channel| {
        let own = literals.iter().filter(|(other, _)| other == channel).map(|(_, literal)| literal.clone());
        (*channel, Rc::new(Literals::new(own.collect())))
    };
    let by_channel: Vec<(Channel, Rc<Literals>)> = channels.iter().map(of_channel).collect();
    move |channel| {
        let found = by_channel.iter().find(|(other, _)| *other == channel);
        let (_, literals) = found.expect("a stream is given the channels it asked for");
        Replacer::new(Rc::clone(literals))
    }
}

impl TextFilter for Replacer {
    fn push(&mut self, text: &str, out: &mut Out) {
        self.take(text, |text| out.push_str(text));
    }

    fn finish(&mut self, out: &mut Out) {
        self.end(|text| out.push_str(text));
    }

    fn is_holding(&self) -> bool {
        self.holds_text()
    }
}

//! How the events of a stream are read, and which of them wait for the plugins' end.

use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::json::SyntaxError;
use crate::wire::sse::{Fields, Frame};
use crate::wire::text::envelope::Envelope;
use crate::wire::text::event::{Body, Event, Fate};
use crate::wire::text::limits::{HELD_BYTES_MAX, HELD_TOO_MUCH};
use crate::wire::text::messages::{self, Shape};
use crate::wire::text::reader::{Reading, Slot};
use crate::wire::text::response::{self, Piece};
use crate::wire::text::{DONE, Phase, TOOL_CALLS_MAX, TextStream, content};

impl TextStream {
    /// Reads one event and queues it.
    pub(super) fn take(&mut self, frame: &Frame) -> Result<()> {
        let fields = frame.fields();
        let from = self.slots.len();
        let is_done = fields.data.as_ref().is_some_and(|data| data == DONE);
        let (mut reading, mut repeats, mut shape) = (Reading::default(), Vec::new(), Shape::Other);
        if let Some(data) = fields.data.as_ref().filter(|_| !is_done) {
            if self.lanes.is_some() {
                repeats = self.read_response(frame, &fields, data, &mut reading)?;
            } else {
                // What cannot be read is not looked into.
                (reading, shape) = self.read(&fields, data).unwrap_or_default();
            }
            self.watch(&reading, data, from);
        }
        reading.is_end |= is_done;
        let mut fate = self.fate(&reading, !repeats.is_empty(), from);
        if self.is_finished() && shape != Shape::Other {
            fate = Fate::Drop;
        }
        self.held_bytes += if fate == Fate::Hold { frame.raw.len() } else { 0 };
        let waiting_bytes = self.blocks.as_ref().map_or(0, |blocks| blocks.waiting_bytes());
        if self.held_bytes + waiting_bytes > HELD_BYTES_MAX {
            return Err(Error::new(ErrorKind::UpstreamInvalid, HELD_TOO_MUCH));
        }
        let slots = from..self.slots.len();
        let has_text = !slots.is_empty() || !repeats.is_empty();
        let body = has_text.then(|| Body { raw: frame.raw.clone(), fields });
        let Reading { is_bare, choices, is_end, begins, .. } = reading;
        let len = frame.raw.len();
        self.queue.push(Event { len, slots, is_bare, choices, fate, repeats, is_end, begins, shape, body });
        Ok(())
    }

    /// Reads an event of a dialect whose events do not repeat text.
    fn read(&mut self, fields: &Fields, data: &[u8]) -> Result<(Reading, Shape), SyntaxError> {
        let (channels, event, slots) = (self.reader.channels, self.queue.len(), &mut self.slots);
        if let Some(blocks) = &mut self.blocks {
            return messages::read_event(data, fields.event_name(), channels, event, &mut blocks.came, slots);
        }
        let reading = match self.endpoint {
            Endpoint::GenerateContent => content::read(data, channels, event, &mut self.calls, slots),
            _ => self.reader.read(data, event, slots),
        };
        reading.map(|reading| (reading, Shape::Other))
    }

    /// Reads an event of the Responses API. A text that comes again is not shown again; one that has not come in pieces
    /// is shown when it comes whole. Returns the texts that are whole.
    fn read_response(
        &mut self,
        frame: &Frame,
        fields: &Fields,
        data: &[u8],
        reading: &mut Reading,
    ) -> Result<Vec<Piece>> {
        let Some(lanes) = &mut self.lanes else { return Ok(Vec::new()) };
        let Ok(mut event) = response::read_event(data, fields.event_name(), self.reader.channels) else {
            return Ok(Vec::new());
        };
        for piece in &event.pieces {
            if event.is_delta || !lanes.has(piece.lane) {
                let Piece { lane, text } = piece.clone();
                self.slots.push(Slot { lane, event: self.queue.len(), text, twin: None, is_json: false });
            }
        }
        lanes.watch(frame, fields.data_range.as_ref().map(|range| range.start), &event)?;
        reading.is_bare = event.is_bare;
        reading.is_end = event.is_end;
        reading.begins = event.begins;
        reading.stop = event.stop;
        self.choices.ended |= event.ended_item.and_then(|item| 1_u128.checked_shl(item)).unwrap_or(0);
        Ok(if event.is_delta { Vec::new() } else { std::mem::take(&mut event.pieces) })
    }

    fn watch(&mut self, reading: &Reading, data: &[u8], from: usize) {
        self.choices.begun |= reading.choices;
        self.choices.ended |= reading.ended;
        self.choices.has_further |= reading.has_further_choices;
        self.stop = self.stop.or(reading.stop);
        self.style.watch(reading);
        self.budget.came += self.slots[from..].iter().map(|slot| slot.text.range().len() as u64).sum::<u64>();
        if self.tools.len() < TOOL_CALLS_MAX {
            self.tools.extend(&reading.tools);
        }
        if self.envelope.is_none() && reading.has_choices() && self.blocks.is_none() {
            self.envelope = Some(Envelope::of(data, self.endpoint));
        }
    }

    /// Decides whether an event may go before the plugins have finished.
    fn fate(&mut self, reading: &Reading, ends_text: bool, from: usize) -> Fate {
        if self.phase == Phase::Finished {
            // Nobody has seen this text. Clients stop reading before it.
            let has_text = self.slots.len() > from || ends_text;
            self.slots.truncate(from);
            return if has_text { Fate::Drop } else { Fate::Pass };
        }
        if reading.is_end {
            self.phase = Phase::Ended;
        }
        // An event that also has to do with a choice that goes on cannot wait: what follows it would overtake it.
        let goes_on = reading.has_further_choices || reading.choices & !self.choices.ended != 0;
        if (reading.ended != 0 || ends_text) && !goes_on && self.phase == Phase::Open {
            self.phase = Phase::Holding;
        }
        match self.phase {
            Phase::Open | Phase::Finished => Fate::Pass,
            Phase::Holding if goes_on => Fate::Pass,
            Phase::Holding | Phase::Ended => Fate::Hold,
        }
    }
}

//! Removes `<think>…</think>` from the start of an answer's content, of a stream or a whole answer alike.
//!
//! The host lets it go (`detach`) as soon as every choice of the answer is past its thinking.

mod strip;

use strip::Stripper;
use witgate_sdk::{Call, Lanes, Opened, Out, Plugin, StreamText, TextFilter, export};

struct ThinkStrip;

impl Plugin for ThinkStrip {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl StreamText for ThinkStrip {
    type Stream = Lanes<Stripper>;

    fn open(&self, call: &Call) -> Option<Opened<Self::Stream>> {
        Some(Opened::new(Lanes::new(|_| Stripper::default()).expecting(call.choices())))
    }
}

impl TextFilter for Stripper {
    fn push(&mut self, text: &str, out: &mut Out) {
        let mut kept = String::new();
        self.push(text, &mut kept);
        out.push_str(&kept);
    }

    fn finish(&mut self, out: &mut Out) {
        let mut kept = String::new();
        self.finish(&mut kept);
        out.push_str(&kept);
    }

    fn is_done(&self) -> bool {
        self.is_done()
    }
}

export!(ThinkStrip: StreamText);

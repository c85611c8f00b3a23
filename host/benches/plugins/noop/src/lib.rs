//! Sees the text of answers and leaves it alone, in each of the ways a plugin can.

use serde::Deserialize;
use witgate_sdk::{
    Call, Config, Finish, Opened, Plugin, Rejection, StreamText, TextAction, TextBatch, TextStream, Verdict,
    Wake, export,
};

struct Noop {
    interest: Interest,
}

/// How much of the text it sees.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// When it is called.
    interest: Interest,
}

#[derive(Clone, Copy, Config, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Interest {
    /// For every batch.
    EveryBatch,
    /// When a text comes that the benches never send.
    Literal,
    /// At the end.
    AtFinish,
    /// Once.
    Detach,
    /// Never.
    None,
}

export!(Noop: StreamText);

impl Plugin for Noop {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { interest: settings.interest })
    }
}

impl StreamText for Noop {
    type Stream = Answer;

    fn open(&self, _: &Call) -> Option<Opened<Answer>> {
        let action = match self.interest {
            Interest::None => return None,
            Interest::Detach => TextAction::Detach,
            Interest::EveryBatch | Interest::Literal | Interest::AtFinish => TextAction::Unchanged,
        };
        let wake = match self.interest {
            Interest::Literal => Wake::on(["<never>"]),
            Interest::AtFinish => Wake::AtFinish,
            Interest::EveryBatch | Interest::Detach | Interest::None => Wake::EveryBatch,
        };
        Some(Opened::new(Answer { action }).wake(wake))
    }
}

struct Answer {
    action: TextAction,
}

impl TextStream for Answer {
    fn push(&mut self, _: TextBatch) -> Result<Verdict, Rejection> {
        Ok(self.action.clone().into())
    }

    fn finish(&mut self, _: Finish) -> Result<Verdict, Rejection> {
        Ok(TextAction::Unchanged.into())
    }
}

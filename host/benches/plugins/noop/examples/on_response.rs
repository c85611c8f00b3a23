//! Sees answers.

use witgate_sdk::{Call, OnResponse, Plugin, Rejection, ResponseFlow, export};

struct Noop;

export!(Noop: OnResponse);

impl Plugin for Noop {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl OnResponse for Noop {
    fn on_response(&self, _: &Call, _: u16) -> Result<ResponseFlow, Rejection> {
        Ok(ResponseFlow::Next)
    }
}

//! Sees requests.

use witgate_sdk::{Call, Flow, OnRequest, Plugin, Rejection, export};

struct Noop;

export!(Noop: OnRequest);

impl Plugin for Noop {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl OnRequest for Noop {
    fn on_request(&self, _: &Call) -> Result<Flow, Rejection> {
        Ok(Flow::Next)
    }
}

//! Has no opinion.

use witgate_sdk::{Call, Candidate, Hint, OnRoute, Plugin, Rejection, export};

struct Noop;

export!(Noop: OnRoute);

impl Plugin for Noop {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl OnRoute for Noop {
    fn on_route(&self, _: &Call, _: &[Candidate]) -> Result<Hint, Rejection> {
        Ok(Hint::NoOpinion)
    }
}

//! Knows no caller.

use witgate_sdk::{Authenticate, Head, Plugin, Principal, Rejection, export};

struct Noop;

export!(Noop: Authenticate);

impl Plugin for Noop {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Authenticate for Noop {
    fn authenticate(&self, _: &Head) -> Result<Option<Principal>, Rejection> {
        Ok(None)
    }
}

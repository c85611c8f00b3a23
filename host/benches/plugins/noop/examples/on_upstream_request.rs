//! Sees requests on their way to an upstream.

use witgate_sdk::{Call, OnUpstreamRequest, Plugin, Rejection, UpstreamFlow, export};

struct Noop;

export!(Noop: OnUpstreamRequest);

impl Plugin for Noop {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl OnUpstreamRequest for Noop {
    fn on_upstream_request(&self, _: &Call) -> Result<UpstreamFlow, Rejection> {
        Ok(UpstreamFlow::Next)
    }
}

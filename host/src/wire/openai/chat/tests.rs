use proptest::prelude::*;

mod events;
mod reply;
mod request;
mod round;

/// Any text, with what JSON has to escape in it.
fn text() -> impl Strategy<Value = String> {
    "[ -~\n\u{e9}\u{1f600}]{1,12}"
}

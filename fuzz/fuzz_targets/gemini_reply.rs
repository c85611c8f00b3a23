#![no_main]

use libfuzzer_sys::fuzz_target;
use witgate::wire::Surface;

fuzz_target!(|data: &[u8]| witgate_fuzz::reply(Surface::Gemini, data));

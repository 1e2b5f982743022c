#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::fields::{self, Format};

fuzz_target!(|data: &[u8]| fields::invariants::body(&Format::Json, data));

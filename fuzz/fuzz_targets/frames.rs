#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::invariants;

fuzz_target!(|data: &[u8]| invariants::frames(data));

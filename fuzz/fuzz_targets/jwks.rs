#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::jwks;

fuzz_target!(|data: &[u8]| jwks::invariants::set(data));

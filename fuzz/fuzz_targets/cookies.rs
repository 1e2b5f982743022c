#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::jwt;

fuzz_target!(|data: &[u8]| jwt::invariants::cookies(data));

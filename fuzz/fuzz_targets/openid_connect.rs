#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::openid_connect::invariants;

fuzz_target!(|data: &[u8]| invariants::anything(data));

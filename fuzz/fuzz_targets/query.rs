#![no_main]

use libfuzzer_sys::fuzz_target;
use plugins::fields;

fuzz_target!(|data: &str| fields::invariants::query(data));

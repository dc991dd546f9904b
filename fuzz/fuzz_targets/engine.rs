//! Any sequence of inputs to the engine, in virtual time, checked against the model after each input.
#![no_main]

use gaiter::fuzzing::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|scenario: Scenario| scenario.play());

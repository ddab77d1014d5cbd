//! The fuzzer of one target, which `FLUMEN_FUZZ` names; `tests/fuzz/run` builds it and runs them all.

#![no_main]

#[macro_use]
#[path = "../kafka_codec/every_message.rs"]
mod every_message;
#[path = "../kafka_codec/counting.rs"]
mod counting;
mod targets;

use std::sync::LazyLock;

use targets::{TARGETS, Target};

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FLUMEN_FUZZ").unwrap_or_default();
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("FLUMEN_FUZZ names no target but {name:?}: one of {}", names()))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (CHOSEN.run)(input));

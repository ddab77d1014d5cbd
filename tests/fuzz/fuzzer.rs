//! The fuzzer of one target, which `FLUMEN_FUZZ` names; `tests/fuzz/run` builds it and runs them all. Where
//! `FLUMEN_FUZZ_SEEDS` names a directory, the target's drawn inputs are written there first.

#![no_main]

#[macro_use]
#[path = "../kafka_codec/every_message.rs"]
mod every_message;
#[path = "../kafka_codec/counting.rs"]
mod counting;
mod seeds;
mod targets;

use std::{fs, path::PathBuf, sync::LazyLock};

use targets::{TARGETS, Target};

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FLUMEN_FUZZ").unwrap_or_default();
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("FLUMEN_FUZZ names no target but {name:?}: one of {}", names()))
});

/// The fuzzer reads its directories after this.
fn write_seeds() {
    let Some(dir) = std::env::var_os("FLUMEN_FUZZ_SEEDS").map(PathBuf::from) else { return };
    if seeds::DRAWN.contains(&CHOSEN.name) {
        for (number, (_, input)) in seeds::drawn(CHOSEN.name).into_iter().enumerate() {
            let path = dir.join(format!("drawn-{number}"));
            fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

libfuzzer_sys::fuzz_target!(init: write_seeds(), |input: &[u8]| (CHOSEN.run)(input));

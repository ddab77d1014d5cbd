//! The inputs that fuzzing found worth keeping, run through their targets: those that once failed, and
//! one for each branch that any reached; and drawn messages of every version, which [`seeds`] gives the
//! fuzzer to begin with too. `tests/fuzz/run` looks for more.

#[macro_use]
#[path = "kafka_codec/every_message.rs"]
mod every_message;
#[path = "kafka_codec/counting.rs"]
mod counting;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
mod targets;

use std::{collections::BTreeSet, fs, path::Path};

use flumen_actors::gateway::api::ApiKey;

#[test]
fn no_kept_input_does_harm() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpora");
    for target in targets::TARGETS {
        let folder = corpora.join(target.name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for input in inputs {
            let path = input.expect("it was listed").path();
            let bytes = fs::read(&path).expect("it was listed");
            // The name of the one that fails stands above its panic, which cargo shows.
            eprintln!("{}", path.display());
            (target.run)(&bytes);
            count += 1;
        }
        assert!(count > 10, "{}: {count} inputs", target.name);
    }
}

#[test]
fn messages_of_every_version_do_no_harm() {
    let known: BTreeSet<(i16, i16)> = ApiKey::ALL
        .iter()
        .filter_map(|api| Some((api.number(), api.versions()?)))
        .flat_map(|(key, known)| (known.first..=known.last).map(move |version| (key, version)))
        .collect();
    for name in seeds::DRAWN {
        let target = targets::TARGETS.iter().find(|target| target.name == name);
        let mut seen = BTreeSet::new();
        for ((key, version), input) in seeds::drawn(name) {
            eprintln!("{name}, key {key} version {version}");
            (target.expect("it is a target's").run)(&input);
            seen.insert((key, version));
        }
        assert_eq!(seen, known, "{name}");
    }
}

//! The inputs that fuzzing found worth keeping, run through their targets: those that once failed, and
//! one for each branch that any reached. `tests/fuzz/run` looks for more.

#[macro_use]
#[path = "kafka_codec/every_message.rs"]
mod every_message;
#[path = "kafka_codec/counting.rs"]
mod counting;
#[path = "fuzz/targets.rs"]
mod targets;

use std::{fs, path::Path};

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

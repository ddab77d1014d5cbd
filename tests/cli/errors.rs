//! What is wrong is said in a sentence, and nothing is touched that should not be.

use std::{collections::BTreeMap, fs, path::Path};

use crate::program::Place;

/// Every file below `dir` with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => drop(all.insert(path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    all
}

/// A topic `t` with these lines, in a node that was stopped.
fn filled(lines: u32) -> Option<Place> {
    let place = Place::new()?;
    place.write("a.log", 0..lines);
    let running = place.start("tail logs/*.log --topic t --data data");
    crate::program::wait_until("the lines are in", || {
        place.path("data/t-0/00000000000000000000.log").metadata().is_ok_and(|is| is.len() > 0)
    });
    assert!(running.interrupt().status.success());
    Some(place)
}

#[test]
fn a_missing_directory_is_named_with_what_to_do() {
    let Some(place) = Place::new() else { return };
    let what =
        place.refuse("tail nowhere/*.log --topic t --data data", &["nowhere", "make it first"]);
    assert_eq!(what.lines().count(), 1, "{what}");
    assert!(!place.path("data").exists(), "nothing is made for what cannot be done");
    place.refuse("tail logs/*.log --topic t --data disk/data", &["disk/data", "`disk`", "mounted"]);
    for command in ["consume t", "topics"] {
        place.refuse(&format!("{command} --data data"), &["`data`", "slip in the path"]);
        assert!(!place.path("data").exists(), "`{command}` only reads");
    }
    place.refuse("log repair data/t-0", &["data/t-0", "it is not there", "<topic>-<partition>"]);
    place.refuse("log repair logs", &["`logs`", "data directory", "<topic>-<partition>"]);
}

#[test]
fn what_is_logged_is_what_was_asked_for() {
    let Some(place) = filled(1) else { return };
    let read = |asked| place.run_with("FLUMEN_LOG", asked, "consume t --group g --data data");
    let bad = read("flumen=loud");
    assert!(!bad.status.success());
    bad.tells(&["FLUMEN_LOG=flumen=loud", "warn", "debug"]);
    let [quiet, much] = ["warn", "off,flumen_actors=debug"].map(read);
    assert!(quiet.status.success() && much.status.success(), "{} {}", quiet.err, much.err);
    assert!(!quiet.err.contains("DEBUG"), "{}", quiet.err);
    much.tells(&["DEBUG flumen_actors::broker", "groups are loaded"]);
}

#[test]
fn a_bad_option_is_named_with_what_would_be_right() {
    let Some(place) = filled(3) else { return };
    place.refuse("--nonsense", &["--nonsense", "Usage"]);
    place.refuse("tail logs/*.log --topic t", &["--data", "Usage"]);
    place.refuse("tail logs/*.log --topic t/u --data data", &["t/u"]);
    place.refuse("tail logs/*.log --topic t --partitions 0 --data data", &["--partitions", "0"]);
    place.refuse("tail logs/[.log --topic t --data data", &["logs/[.log", "pattern"]);
    place.refuse(
        "tail logs/*.log --topic t --partitions 4 --data data",
        &["`t`", "count of 1", "--partitions 4", "leave the option out", "another topic"],
    );
    place.refuse("consume t --data data --from lunch", &["--from lunch", "beginning", "offset"]);
    place.refuse("consume t --data data --from 99", &["--from 99", "ends before"]);
    place.refuse("consume t --data data --partition 7", &["--partition 7", "flumen topics"]);
    place.refuse("consume u --data data", &["`u`", "the topics here are t"]);
}

#[test]
fn two_processes_on_one_data_directory_are_told_of_each_other() {
    let Some(place) = Place::new() else { return };
    place.write("a.log", 0..3);
    let first = place.start("tail logs/*.log --topic t --data data");
    first.has_said("data in");
    let log = place.path("data/t-0/00000000000000000000.log");
    crate::program::wait_until("the lines are in", || log.metadata().is_ok_and(|is| is.len() > 0));
    for second in ["consume t --data data", "log repair data/t-0"] {
        place.refuse(second, &["data", "in use by another process", "stop that one"]);
    }
    let said = first.interrupt();
    assert!(said.status.success());
    said.tells(&["3 lines went into `t`"]);
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_was() {
    let Some(place) = filled(3) else { return };
    let meta = place.path("data/meta.properties");
    let newer = fs::read_to_string(&meta).unwrap().replace("flumen.format=1", "flumen.format=2");
    fs::write(&meta, newer).unwrap();
    let before = contents(&place.path("data"));
    for command in ["consume t", "topics", "tail logs/*.log --topic t"] {
        place.refuse(
            &format!("{command} --data data"),
            &["format 2", "left untouched", "newer program"],
        );
        assert_eq!(contents(&place.path("data")), before, "`{command}`");
    }
}

#[test]
fn damage_is_named_and_repaired_by_the_command_that_it_names() {
    let Some(place) = filled(2_000) else { return };
    let lines = place.succeed("consume t --data data").lines().count();
    assert_eq!(lines, 2_000);
    let log = place.path("data/t-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let words = ["t-0", "00000000000000000000.log", "byte", "flumen log repair"];
    place.refuse("consume t --data data", &words);
    // It is no passing trouble, and reading does not change it.
    place.refuse("consume t --data data", &words);

    let repaired = place.run("log repair data/t-0");
    assert!(repaired.status.success(), "{}", repaired.err);
    repaired.tells(&["data/t-0", "was cut at byte", "given up", "ends at offset", "is kept in"]);
    let kept = repaired.err.split("is kept in `").nth(1).and_then(|rest| rest.split('`').next());
    assert!(place.path(kept.unwrap()).is_file(), "{}", repaired.err);
    let left = place.succeed("consume t --data data");
    assert!(left.lines().count() < lines);
    for (number, line) in left.lines().enumerate() {
        assert_eq!(line, format!("line {number}"));
    }
    let again = place.run("log repair data/t-0");
    assert!(again.status.success());
    again.tells(&["whole", "nothing was changed"]);
}

#[test]
fn a_repair_that_makes_a_recovery_point_anew_says_what_is_there_again() {
    let Some(place) = filled(100) else { return };
    place.succeed("topics trim t --to 60 --data data");
    let kept = place.succeed("consume t --data data");
    assert_eq!(kept.lines().next(), Some("line 60"));
    fs::write(place.path("data/t-0/recovery-point"), "no longer one").unwrap();
    let repaired = place.run("log repair data/t-0");
    assert!(repaired.status.success(), "{}", repaired.err);
    repaired.tells(&["made anew", "begins at offset 0", "deleted are in it again", "topics trim"]);
    assert_eq!(place.succeed("consume t --data data").lines().count(), 100);
}

//! A disk without room: said where, nothing lost, and it goes on by itself.

use std::{fs, process::Command};

use crate::{
    mount::Mount,
    program::{Place, skip, wait_until},
};

/// Little more than what a node leaves free.
const BYTES: u64 = 160 << 20;

#[test]
fn a_full_disk_is_named_and_what_it_does_not_take_is_taken_later() {
    let Some(place) = Place::new() else { return };
    let mount = match Mount::of(BYTES) {
        Ok(mount) => mount,
        Err(why) => return skip(&why),
    };
    let data = mount.dir().join("data").display().to_string();
    let tail = format!("tail logs/*.log --topic t --data {data}");
    place.write("a.log", 0..10);
    let first = place.start(&tail);
    wait_until("the lines are in", || {
        fs::metadata(format!("{data}/t-0/00000000000000000000.log")).is_ok_and(|is| is.len() > 0)
    });
    assert!(first.interrupt().status.success());

    let fill = mount.dir().join("fill");
    // It ends where there is no room any more.
    let target = format!("of={}", fill.display());
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=64k", &target]).output().unwrap();
    assert!(!filled.status.success(), "the disk is not full");
    place.write("a.log", 10..500);
    let second = place.start(&tail);
    second.has_said("is full");
    let said = second.interrupt();
    said.tells(&["is full", "made room", "0 lines went into `t`"]);
    assert!(said.status.success(), "{}", said.err);

    fs::remove_file(fill).unwrap();
    let third = place.start(&tail);
    wait_until("the rest is in", || {
        fs::metadata(format!("{data}/t-0/00000000000000000000.log"))
            .is_ok_and(|is| is.len() > 5_000)
    });
    assert!(third.interrupt().status.success());
    let lines = place.succeed(&format!("consume t --data {data}"));
    let wanted: Vec<String> = (0..500).map(|line| format!("line {line}")).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), wanted);
}

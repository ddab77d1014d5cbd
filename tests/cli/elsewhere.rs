//! `flumen tail` into a node that runs elsewhere: each line once, whoever is killed.

use crate::program::{Place, Running, wait_until};

fn serve(place: &Place, listen: &str) -> (Running, String) {
    let node = place.start(&format!("serve --listen {listen} --data data"));
    node.has_said("an acknowledged record");
    let address = node.word_after("listening on ");
    (node, address)
}

/// The lines of topic `t`, sorted by their numbers.
fn numbers(place: &Place, node: &str) -> Vec<u32> {
    let read = place.succeed(&format!("consume t {node}"));
    let number = |line: &str| line.trim_start_matches("line ").parse().unwrap();
    let mut numbers: Vec<u32> = read.lines().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn all_are_in(place: &Place, node: &str, count: u32) {
    wait_until("the lines are in", || numbers(place, node).len() >= count as usize);
    assert_eq!(numbers(place, node), (0..count).collect::<Vec<_>>(), "each line once");
}

#[test]
fn lines_go_into_a_node_that_runs_and_its_files_are_left_to_it() {
    let Some(place) = Place::new() else { return };
    let (node, address) = serve(&place, "127.0.0.1:0");
    place.refuse("tail logs/*.log --topic t --data data", &[&address, "--state DIR"]);
    place.write("a.log", 0..500);
    let tail = "tail logs/*.log --topic t --partitions 3 --data data --state state";
    let running = place.start(tail);
    running.has_said(&format!("lines go to `t` of the node at {address}"));
    all_are_in(&place, "--data data", 500);
    place.write("a.log", 500..700);
    all_are_in(&place, "--data data", 700);
    let said = running.interrupt();
    assert!(said.status.success(), "{}", said.err);
    said.tells(&["700 lines went into `t`", "all that was read is through"]);
    // It goes on where it was.
    place.write("a.log", 700..900);
    let running = place.start(tail);
    all_are_in(&place, "--data data", 900);
    running.interrupt().tells(&["200 lines went into `t`"]);
    place.refuse(
        &format!("tail logs/*.log --topic t --partitions 5 -b {address} --state state"),
        &["`t`", "count of 3", "--partitions 5"],
    );
    assert!(node.terminate().status.success());
    place.refuse(
        &format!("tail logs/*.log --topic t -b {address} --state state"),
        &["nobody listens there"],
    );
}

#[test]
fn each_line_is_there_once_though_tail_and_the_node_are_killed() {
    let Some(place) = Place::new() else { return };
    let (mut node, address) = serve(&place, "127.0.0.1:0");
    place.succeed(&format!("topics create t --partitions 2 -b {address}"));
    let tail = format!("tail logs/*.log --topic t -b {address} --state state");
    let mut running = place.start(&tail);
    let mut written = 0;
    for round in 0..6 {
        place.write("a.log", written..written + 3_000);
        written += 3_000;
        // Killed in the middle of it, sooner and later.
        wait_until("some are in", || {
            let log = place.path("data/t-0/00000000000000000000.log");
            log.metadata().is_ok_and(|is| is.len() > round * 20_000)
        });
        // One that finds no node ends at once.
        running.has_said("lines go to");
        match round % 2 {
            0 => {
                running.kill();
                running = place.start(&tail);
            }
            _ => {
                node.kill();
                (node, _) = serve(&place, &address);
            }
        }
    }
    all_are_in(&place, &format!("-b {address}"), written);
    let said = running.interrupt();
    assert!(said.status.success(), "{}", said.err);
    assert_eq!(numbers(&place, &format!("-b {address}")), (0..written).collect::<Vec<_>>());
    assert!(node.terminate().status.success());
}

//! `tail` and `consume` as they are used.

use std::{fs, net::TcpStream, time::Duration};

use tokio::time::Instant;

use crate::program::{Place, wait_until};

fn lines(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|line| format!("line {line}")).collect()
}

#[test]
fn files_that_appear_later_are_followed_and_ctrl_c_drains() {
    let Some(place) = Place::new() else { return };
    let running = place.start("tail logs/*.log --topic t --data data");
    running.has_said("nothing matches `logs/*.log` yet; it is looked for again");
    place.write("a.log", 0..50);
    let log = place.path("data/t-0/00000000000000000000.log");
    wait_until("the first file is found", || log.metadata().is_ok_and(|is| is.len() > 0));
    place.write("b.log", 50..100);
    wait_until("the second file is found", || {
        fs::read(&log).is_ok_and(|bytes| bytes.windows(7).any(|at| at == b"line 50"))
    });
    let said = running.interrupt();
    assert!(said.status.success(), "{}", said.err);
    said.tells(&["100 lines went into `t`", "is on the disk", "the next start goes on behind it"]);
    let mut found: Vec<_> =
        place.succeed("consume t --data data").lines().map(str::to_owned).collect();
    found.sort();
    let mut wanted = lines(0..100);
    wanted.sort();
    assert_eq!(found, wanted);

    // The next start goes on behind it.
    place.write("a.log", 100..110);
    let running = place.start("tail logs/*.log --topic t --data data");
    wait_until("the rest is read", || {
        fs::read(&log).is_ok_and(|bytes| bytes.windows(8).any(|at| at == b"line 109"))
    });
    running.interrupt().tells(&["10 lines went into `t`"]);
    assert_eq!(place.succeed("consume t --data data").lines().count(), 110);
}

#[test]
fn consuming_begins_where_it_is_told_and_a_group_goes_on() {
    let Some(place) = Place::new() else { return };
    place.write("a.log", 0..20);
    let running = place.start("tail logs/*.log --topic t --data data");
    let log = place.path("data/t-0/00000000000000000000.log");
    wait_until("the lines are in", || log.metadata().is_ok_and(|is| is.len() > 0));
    assert!(running.interrupt().status.success());
    let consume = |options: &str| -> Vec<String> {
        let out = place.succeed(&format!("consume t --data data{options}"));
        out.lines().map(str::to_owned).collect()
    };
    assert_eq!(consume(""), lines(0..20));
    assert_eq!(consume(" --from beginning"), lines(0..20));
    assert_eq!(consume(" --from 15"), lines(15..20));
    assert_eq!(consume(" --from end"), lines(0..0));
    assert_eq!(consume(" --from @0"), lines(0..20), "all is younger than 1970");
    assert_eq!(consume(" --from @99999999999999"), lines(0..0), "nothing is of the future");
    assert_eq!(consume(" --from 2020-01-01T00:00:00Z"), lines(0..20));
    assert_eq!(consume(" --from 2020-01-01"), lines(0..20));
    assert_eq!(consume(" --from 2100-01-01T00:00"), lines(0..0));

    assert_eq!(consume(" --group readers"), lines(0..20));
    assert_eq!(consume(" --group readers"), lines(0..0), "it has read them");
    assert_eq!(consume(" --group others --from 18"), lines(18..20));
    let again = place.run("consume t --data data --group others --from 3");
    assert!(again.status.success() && again.out.is_empty(), "{}", again.err);
    again.tells(&["group `others` goes on where it has committed", "`--from 3`", "groups reset"]);
    let apart = place.run("consume t --data data --group others --partition 0 --from 3");
    apart.tells(&["group `others` goes on where it has committed"]);
    let quiet = place.run("consume t --data data --group others");
    assert_eq!(quiet.err, "", "nothing else was asked for");
    place.write("a.log", 20..25);
    let running = place.start("tail logs/*.log --topic t --data data");
    wait_until("the rest is in", || {
        fs::read(&log).is_ok_and(|bytes| bytes.windows(7).any(|at| at == b"line 24"))
    });
    assert!(running.interrupt().status.success());
    assert_eq!(consume(" --group readers"), lines(20..25));
    assert_eq!(consume(" --group others"), lines(20..25));
    let described = place.succeed("topics t --data data");
    let row: Vec<&str> = described.lines().last().unwrap().split_whitespace().take(4).collect();
    assert_eq!(row, ["0", "1", "0", "25"], "{described}");
}

#[test]
fn a_node_says_where_it_listens_and_stops_in_order_when_a_service_manager_tells_it() {
    let Some(place) = Place::new() else { return };
    let node = place.start("serve --listen 127.0.0.1:0 --data data");
    node.has_said("listening on ");
    let client = TcpStream::connect(node.word_after("listening on ")).unwrap();
    let said = node.terminate();
    said.tells(&["data in `data`", "stopping"]);
    assert!(said.status.success(), "{}", said.err);
    drop(client);
}

#[test]
fn a_group_whose_reader_was_killed_is_read_on_at_once() {
    let Some(place) = Place::new() else { return };
    place.write("a.log", 0..200_000);
    let running = place.start("tail logs/*.log --topic t --data data");
    let log = place.path("data/t-0/00000000000000000000.log");
    wait_until("the lines are in", || {
        fs::read(&log).is_ok_and(|bytes| bytes.windows(11).any(|at| at == b"line 199999"))
    });
    assert!(running.interrupt().status.success());
    let reader = place.start("consume t --data data --group readers");
    reader.has_printed("line 0");
    drop(reader);
    let began = Instant::now();
    place.succeed("consume t --data data --group readers");
    // Were it a member of the group, it would be waited for for 45 s.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(place.succeed("consume t --data data --group readers"), "");
}

//! Where io_uring is forbidden, the first line says what runs instead, and everything goes on.

use std::thread;

use crate::{
    filter::forbid_io_uring,
    program::{Place, wait_until},
};

#[test]
fn a_node_that_may_not_use_io_uring_says_so_and_runs_on_threads() {
    let Some(place) = Place::new() else { return };
    // The program inherits the filter of the thread that starts it.
    let filtered = thread::spawn(move || {
        forbid_io_uring().unwrap();
        place.write("a.log", 0..20);
        let running = place.start("tail logs/*.log --topic t --data data");
        running.has_said("disk: threads, since a seccomp filter");
        let log = place.path("data/t-0/00000000000000000000.log");
        wait_until("the lines are in", || log.metadata().is_ok_and(|is| is.len() > 0));
        let said = running.interrupt();
        assert!(said.status.success(), "{}", said.err);
        said.tells(&["io_uring_setup", "20 lines went into `t`"]);
        assert_eq!(place.succeed("consume t --data data").lines().count(), 20);
        place.refuse(
            "topics --data data --disk uring",
            &["io_uring was demanded", "seccomp", "threads"],
        );
    });
    filtered.join().unwrap();
}

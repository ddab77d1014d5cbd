//! Reads that go on where others left off, and how long what was read holds.

use super::{
    super::*,
    driver::Driver,
    stories::{Machine, in_simulation, without_checkpoints},
};

/// Reads one batch, and has the log take note of it.
async fn read(driver: &mut Driver, from: u64) -> ReadDone {
    let plan = driver.log.plan_read(Offset(from), driver.log.written_end(), 1).unwrap();
    let done = plan.run(driver.disk.clone()).await.unwrap();
    driver.log.note_read(&done);
    done
}

#[test]
fn what_was_read_holds_whatever_else_is_read_and_however_long_until_the_log_is_cut() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        let done = read(&mut driver, 3).await;
        read(&mut driver, 12).await;
        driver.pass(1_000);
        driver.append(3, 100, 10);
        driver.settle().await.unwrap();
        assert!(done.still_holds());
        driver.log.truncate_to(Offset(15));
        driver.settle().await.unwrap();
        assert!(!done.still_holds());
        assert!(!ReadDone::default().still_holds(), "nothing was read");
    });
}

#[test]
fn readers_that_take_turns_each_go_on_where_they_left_off() {
    in_simulation(|| async {
        let machine = Machine::new(without_checkpoints());
        machine.with_ten_batches().await;
        let mut driver = machine.open().await;
        for from in [0, 6, 12, 18, 3, 9, 15, 21] {
            read(&mut driver, from).await;
        }
        let goes_on = |driver: &Driver| -> Vec<u64> {
            (0..=30).filter(|at| driver.log.goes_on_at(Offset(*at))).collect()
        };
        assert_eq!(goes_on(&driver), [6, 12, 18, 24], "each where it is now");
        read(&mut driver, 27).await;
        assert_eq!(goes_on(&driver), [12, 18, 24, 30], "the oldest is forgotten");
        driver.pass(1_000);
        assert_eq!(goes_on(&driver), [], "no descriptor is kept for long");
    });
}

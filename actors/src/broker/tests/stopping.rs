//! Stopping a broker of many partitions.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use super::*;

/// More than may be closed at a time.
const PARTITIONS: u32 = 300;
const CLOSED_TOGETHER: usize = 256;

/// The logs whose close is under way, by what it begins and ends with on the disk: the cut of the
/// segment and the sync of the recovery point.
#[derive(Default)]
struct Closing {
    now: BTreeSet<PathBuf>,
    most: usize,
    closed: usize,
}

impl Closing {
    fn see(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some(what), Some(path)) = (words.next(), words.next().map(Path::new)) else { return };
        let is_partition = |dir: &&Path| dir.to_string_lossy().starts_with("/data/t-");
        let Some(dir) = path.parent().filter(is_partition) else { return };
        match (what, path.extension().is_some_and(|extension| extension == "log")) {
            ("truncate", true) => drop(self.now.insert(dir.into())),
            ("sync", false) if path.ends_with("recovery-point") => {
                self.closed += usize::from(self.now.remove(dir));
            }
            _ => {}
        }
        self.most = self.most.max(self.now.len());
    }
}

#[test]
fn a_stop_closes_no_more_logs_at_a_time_than_it_may_and_all_of_them() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", PARTITIONS).unwrap()).await.unwrap();
        for number in 0..PARTITIONS {
            append(&broker, &partition("t", number), "x").await;
        }
        let closing = Arc::new(Mutex::new(Closing::default()));
        let sees = closing.clone();
        machine.disks.set_witness(Box::new(move |line| {
            sees.lock().unwrap_or_else(PoisonError::into_inner).see(&line);
        }));
        // Each step takes a while: all that have begun are under way before the first ends.
        machine.disks.set_faults(Faults { latency_ms: 30, ..Faults::none() });
        root.stop().await;
        let closing = closing.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(closing.closed, PARTITIONS as usize, "logs that were closed");
        assert_eq!(closing.most, CLOSED_TOGETHER, "logs that were being closed at a time");
    });
}

//! What a test and the node that it kills say to each other, a line of JSON each, over a socket pair.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The variable that tells a child how to run.
pub(crate) const LIFE: &str = "FLUMEN_TEST_LIFE";

/// The topic that is appended to directly, by the test's own idempotent producers.
pub(crate) const DIRECT: &str = "direct";
/// The topic that followed files go into.
pub(crate) const LINES: &str = "lines";
/// Partitions of each.
pub(crate) const PARTITIONS: u32 = 2;

/// How one life of the node runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) data: String,
    /// Pattern of the files that it follows.
    pub(crate) logs: String,
    /// Where it writes part files.
    pub(crate) parts: String,
    /// io_uring, not threads.
    pub(crate) is_ring: bool,
    /// Where it dies, and the how-manieth time there.
    pub(crate) point: Option<(String, u32)>,
    /// Whether its disks lie about syncs.
    pub(crate) syncs_are_off: bool,
}

/// Offsets and values, in order.
pub(crate) type Records = Vec<(u64, String)>;

/// What the test asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Appends one batch.
    Append { partition: u32, producer: i64, sequence: i32, values: Vec<String> },
    /// Stops in order.
    Stop,
}

/// What the node says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Say {
    /// Before it takes appends: what a partition holds.
    Held { partition: u32, records: Records },
    /// All that is held was said; it takes appends.
    Ready,
    /// A batch is acknowledged.
    Appended { partition: u32, producer: i64, sequence: i32, offset: u64 },
    /// A batch is refused.
    Refused { partition: u32, producer: i64, sequence: i32, why: String },
    /// The consumer begins here.
    Assigned { partition: u32, position: u64 },
    /// The consumer was given these.
    Delivered { partition: u32, records: Records },
    /// The consumer's commit is acknowledged.
    Committed { partition: u32, next: u64 },
    /// It cannot go on.
    Failed { why: String },
}

pub(crate) fn line(message: &impl Serialize) -> String {
    let mut line = serde_json::to_string(message).expect("numbers and texts");
    line.push('\n');
    line
}

pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:.200}"))
}

//! The account that the test keeps of what the node told it, and what must be true of each life.
//!
//! - nothing acknowledged is lost: an acknowledged record is there after every restart;
//! - an offset never changes its bytes, whoever saw it: an answer, a consumer, a look after a restart;
//! - nothing is doubled, and order is kept: the records of a producer are 0, 1, 2, … in each log;
//! - a commit that was acknowledged is where the next life begins, or after it;
//! - each line of the followed files is in the part files once, and in the order of its file.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::Path,
};

use crate::talk::{Ask, PARTITIONS, Records};

/// What is broken, in words.
pub(crate) type Verdict = Result<(), String>;

/// Lines of the followed file between two rotations.
pub(crate) const LINES_A_FILE: u64 = 200;
/// Batches that a producer may have in flight: Kafka's window.
const IN_FLIGHT_MAX: usize = 5;

struct Batch {
    sequence: i32,
    values: Vec<String>,
    is_sent: bool,
}

/// One idempotent producer of the test's; it outlives the node.
pub(crate) struct Producer {
    id: i64,
    partition: u32,
    next: i32,
    unacknowledged: VecDeque<Batch>,
    /// Whether it was refused in this life, and waits for the next.
    is_refused: bool,
}

impl Producer {
    /// Whether the last life left something open that this one was not sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unacknowledged.iter().any(|batch| !batch.is_sent)
    }

    /// The next batch to be sent, of values as long as `pads` says: first those that the last life
    /// left open, then new ones.
    pub(crate) fn next_ask(&mut self, pads: impl FnOnce() -> Vec<usize>) -> Option<Ask> {
        if self.is_refused {
            return None;
        }
        if self.unacknowledged.iter().all(|batch| batch.is_sent) {
            if self.unacknowledged.len() >= IN_FLIGHT_MAX {
                return None;
            }
            let (sequence, id) = (self.next, self.id);
            let value = |(at, pad): (usize, usize)| {
                let number = sequence as usize + at;
                format!("{id}/{number}/{:x<pad$}", "")
            };
            let values: Vec<String> = pads().into_iter().enumerate().map(value).collect();
            self.next += i32::try_from(values.len()).expect("few");
            self.unacknowledged.push_back(Batch { sequence, values, is_sent: false });
        }
        let (partition, producer) = (self.partition, self.id);
        let batch = self.unacknowledged.iter_mut().find(|batch| !batch.is_sent)?;
        batch.is_sent = true;
        let (sequence, values) = (batch.sequence, batch.values.clone());
        Some(Ask::Append { partition, producer, sequence, values })
    }
}

/// See the module.
pub(crate) struct Ledger {
    /// What somebody saw at an offset.
    known: Vec<BTreeMap<u64, String>>,
    held: Vec<Records>,
    pub(crate) producers: Vec<Producer>,
    committed: Vec<u64>,
    /// Where the consumer is in this life.
    reading: Vec<Option<u64>>,
    /// Acknowledged records.
    pub(crate) acknowledged: u64,
    /// Batches that were sent in one life and acknowledged in a later one.
    pub(crate) repeated: u64,
    /// Lines that were written to the followed files.
    pub(crate) lines: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let partitions = PARTITIONS as usize;
        let producers = (0..PARTITIONS * 2).map(|number| Producer {
            id: 1_000 + i64::from(number),
            partition: number % PARTITIONS,
            next: 0,
            unacknowledged: VecDeque::new(),
            is_refused: false,
        });
        Self {
            known: vec![BTreeMap::new(); partitions],
            held: vec![Records::new(); partitions],
            producers: producers.collect(),
            committed: vec![0; partitions],
            reading: vec![None; partitions],
            acknowledged: 0,
            repeated: 0,
            lines: 0,
        }
    }

    /// A new life of the node begins.
    pub(crate) fn begin_life(&mut self) {
        self.held.iter_mut().for_each(Records::clear);
        self.reading.fill(None);
        for producer in &mut self.producers {
            producer.is_refused = false;
            for batch in &mut producer.unacknowledged {
                self.repeated += u64::from(batch.is_sent);
                batch.is_sent = false;
            }
        }
    }

    pub(crate) fn on_held(&mut self, partition: u32, records: Records) {
        self.held[partition as usize].extend(records);
    }

    /// All that the node holds was said: compares it with what is known, and knows it from now on.
    pub(crate) fn on_ready(&mut self) -> Verdict {
        for (partition, held) in self.held.iter_mut().enumerate() {
            let held: BTreeMap<u64, String> = std::mem::take(held).into_iter().collect();
            for (offset, value) in &self.known[partition] {
                match held.get(offset) {
                    None => return Err(format!("lost: {partition}@{offset} `{value:.40}`")),
                    Some(now) if now != value => {
                        return Err(format!(
                            "changed: {partition}@{offset} was `{value:.40}` and is `{now:.40}`"
                        ));
                    }
                    Some(_) => {}
                }
            }
            in_order(partition, &held)?;
            self.known[partition] = held;
        }
        Ok(())
    }

    fn know(&mut self, partition: u32, offset: u64, value: &str) -> Verdict {
        let known = &mut self.known[partition as usize];
        match known.get(&offset) {
            Some(before) if before != value => Err(format!(
                "changed: {partition}@{offset} was `{before:.40}` and is `{value:.40}`"
            )),
            Some(_) => Ok(()),
            None => {
                known.insert(offset, value.to_owned());
                Ok(())
            }
        }
    }

    pub(crate) fn on_appended(&mut self, id: i64, sequence: i32, offset: u64) -> Verdict {
        let producer = self.producers.iter_mut().find(|producer| producer.id == id);
        let producer = producer.ok_or_else(|| format!("an answer for a stranger: {id}"))?;
        let partition = producer.partition;
        let at = producer.unacknowledged.iter().position(|batch| batch.sequence == sequence);
        let batch = at.and_then(|at| producer.unacknowledged.remove(at));
        let batch = batch.ok_or_else(|| format!("a second answer for {id}/{sequence}"))?;
        self.acknowledged += batch.values.len() as u64;
        let offsets = offset..;
        offsets.zip(&batch.values).try_for_each(|(at, value)| self.know(partition, at, value))
    }

    /// A batch was refused: it is sent again in the next life.
    pub(crate) fn on_refused(&mut self, id: i64) {
        for producer in self.producers.iter_mut().filter(|producer| producer.id == id) {
            producer.is_refused = true;
        }
    }

    pub(crate) fn on_assigned(&mut self, partition: u32, position: u64) -> Verdict {
        let committed = self.committed[partition as usize];
        if position < committed {
            return Err(format!(
                "lost: the commit of {partition}@{committed}: reading begins at {position}"
            ));
        }
        self.reading[partition as usize] = Some(position);
        Ok(())
    }

    pub(crate) fn on_delivered(&mut self, partition: u32, records: &Records) -> Verdict {
        for (offset, value) in records {
            let next = self.reading[partition as usize].replace(offset + 1);
            if next != Some(*offset) {
                return Err(format!("delivered {partition}@{offset}, and {next:?} was next"));
            }
            self.know(partition, *offset, value)?;
        }
        Ok(())
    }

    pub(crate) fn on_committed(&mut self, partition: u32, next: u64) {
        self.committed[partition as usize] = next;
    }

    /// Whether the consumer has committed all that is known.
    pub(crate) fn is_read(&self) -> bool {
        self.known.iter().zip(&self.committed).all(|(known, committed)| {
            known.last_key_value().is_none_or(|(last, _)| last + 1 == *committed)
        })
    }

    /// How many lines are in the part files: each once, and in the order of its file.
    pub(crate) fn lines_kept(&self, parts: &Path) -> Result<u64, String> {
        let parts = read_parts(parts).map_err(|error| format!("the part files: {error}"))?;
        let mut times = vec![0_u8; self.lines as usize];
        let mut last: BTreeMap<(String, u64), u64> = BTreeMap::new();
        for (name, text) in parts {
            let partition: String = name.split('-').take(3).collect();
            for line in text.lines() {
                let number = line.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok());
                let number = number.filter(|number| *number < self.lines);
                let number = number.ok_or_else(|| format!("`{name}` has `{line:.40}`"))?;
                times[number as usize] += 1;
                if times[number as usize] > 1 {
                    return Err(format!("doubled: line {number}, again in `{name}`"));
                }
                // Files are followed side by side: each is in order by itself.
                let of = (partition.clone(), number / LINES_A_FILE);
                if last.insert(of, number).is_some_and(|last| last > number) {
                    return Err(format!("out of order: line {number} in `{name}`"));
                }
            }
        }
        Ok(times.iter().map(|times| u64::from(*times)).sum())
    }
}

/// Offsets without gaps, and of each producer 0, 1, 2, …
fn in_order(partition: usize, held: &BTreeMap<u64, String>) -> Verdict {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for (wanted, (offset, value)) in (0..).zip(held) {
        if *offset != wanted {
            return Err(format!("a gap: {partition}@{wanted} is missing before {offset}"));
        }
        let mut parts = value.split('/');
        let (producer, number) = (parts.next().unwrap_or_default(), parts.next());
        let next = next.entry(producer).or_default();
        let number = number.and_then(|number| number.parse::<u64>().ok());
        if number != Some(*next) {
            let what = if number < Some(*next) { "doubled" } else { "lost" };
            return Err(format!("{what}: {partition}@{offset} `{value:.40}`, and {next} was next"));
        }
        *next += 1;
    }
    Ok(())
}

/// Names and contents, in the order of names.
fn read_parts(dir: &Path) -> io::Result<Vec<(String, String)>> {
    let mut parts = Vec::new();
    if !dir.is_dir() {
        return Ok(parts);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("part-") {
            parts.push((name, fs::read_to_string(entry.path())?));
        }
    }
    parts.sort();
    Ok(parts)
}

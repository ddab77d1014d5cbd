//! What happened in a simulated run, line by line, and one number for all of it.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

/// Lines that are kept to be shown; the hash covers all of them.
const LINES_MAX: usize = 20_000;

/// The trace of one run. Clones share it.
#[derive(Clone)]
pub struct Trace {
    started: Instant,
    told: Arc<Mutex<Told>>,
}

struct Told {
    lines: VecDeque<String>,
    hash: u64,
    /// How often the node logged each message.
    logged: BTreeMap<String, u64>,
}

impl Trace {
    /// An empty trace that begins now.
    pub(super) fn new() -> Trace {
        // FNV-1a, 64 bits.
        let (lines, logged) = (VecDeque::new(), BTreeMap::new());
        let told = Told { lines, hash: 0xcbf2_9ce4_8422_2325, logged };
        Trace { started: Instant::now(), told: Arc::new(Mutex::new(told)) }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, with the virtual time in front.
    pub fn line(&self, what: impl fmt::Display) {
        // The last words of what is dropped at the end of a run come when no clock runs any more.
        let line = match tokio::runtime::Handle::try_current() {
            Ok(_) => format!("{:>7} ms  {what}", self.started.elapsed().as_millis()),
            Err(_) => format!("     end  {what}"),
        };
        let mut told = self.told();
        told.hash = line
            .bytes()
            .chain([b'\n'])
            .fold(told.hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        if told.lines.len() == LINES_MAX {
            told.lines.pop_front();
        }
        told.lines.push_back(line);
    }

    /// One number that two runs share only where every line of theirs is the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.told().hash
    }

    /// The last lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.told().lines.iter().cloned().collect()
    }

    pub(super) fn count(&self, message: &str) {
        let mut told = self.told();
        if let Some(times) = told.logged.get_mut(message) {
            *times += 1;
        } else {
            told.logged.insert(message.to_owned(), 1);
        }
    }

    /// How often the node logged a message that contains `text`.
    #[must_use]
    pub fn logged(&self, text: &str) -> u64 {
        let told = self.told();
        let those = told.logged.iter().filter(|(message, _)| message.contains(text));
        those.map(|(_, times)| times).sum()
    }
}

//! Fetches that wait for more to read: each is a subscription to the log's next bytes.

use std::time::Duration;

use super::messages::Fetch;

/// A fetch that waits, and until when (time since the actor began).
#[derive(Debug)]
pub struct Parked<F> {
    /// What is wanted.
    pub fetch: Fetch,
    /// When it is answered with what there is.
    pub deadline: Duration,
    /// Who wants it.
    pub reader: F,
}

/// All parked fetches of a partition.
///
/// They stand in the order in which they came, so that equal readers are woken in turn. A list:
/// nearly all of them wait at the log's end, so a wake looks at few that it does not answer.
#[derive(Debug)]
pub struct ParkedFetches<F>(Vec<Parked<F>>);

impl<F> Default for ParkedFetches<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F> ParkedFetches<F> {
    /// Parks a fetch.
    pub fn park(&mut self, parked: Parked<F>) {
        self.0.push(parked);
    }

    /// Takes out those for which `is_ready` holds, in order.
    pub fn take_ready(&mut self, is_ready: impl Fn(&Parked<F>) -> bool) -> Vec<Parked<F>> {
        if !self.0.iter().any(&is_ready) {
            return Vec::new();
        }
        self.0.extract_if(.., |parked| is_ready(parked)).collect()
    }

    /// What is wanted.
    pub fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.0.iter().map(|parked| &parked.fetch)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.0.iter().map(|parked| parked.deadline).min()
    }

    /// Takes all of them.
    pub fn drain(&mut self) -> Vec<Parked<F>> {
        std::mem::take(&mut self.0)
    }

    /// How many are parked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

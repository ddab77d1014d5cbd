//! What a gateway counts for whoever watches it: requests, their bytes and their time, for each API.
//!
//! Counting is a few relaxed additions for each request; nothing is formatted, locked or allocated.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

use super::api::ApiKey;

/// More than the largest number of an API.
const APIS: usize = 128;

/// The counts of one API.
#[derive(Debug, Default)]
struct Api {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    answers: AtomicU64,
    answer_bytes: AtomicU64,
    micros: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Counters(Box<[Api]>);

/// What was counted of one API since the node began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiCounts {
    /// Which.
    pub api: ApiKey,
    /// Requests that were taken up.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Requests that were answered.
    pub answers: u64,
    /// Bytes of the answers.
    pub answer_bytes: u64,
    /// Microseconds from when a request was taken up to its answer, in all; what a fetch waited for
    /// records is part of it.
    pub micros: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self((0..APIS).map(|_| Api::default()).collect())
    }
}

impl Counters {
    fn of(&self, api: ApiKey) -> Option<&Api> {
        self.0.get(usize::try_from(api.number()).ok()?)
    }

    /// A request of so many bytes is taken up.
    pub(super) fn taken(&self, api: ApiKey, bytes: usize) {
        if let Some(counts) = self.of(api) {
            counts.requests.fetch_add(1, Relaxed);
            counts.request_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// One that was taken up then is answered with so many bytes.
    pub(super) fn answered(&self, api: ApiKey, taken: Instant, bytes: usize) {
        if let Some(counts) = self.of(api) {
            let micros = u64::try_from(taken.elapsed().as_micros()).unwrap_or(u64::MAX);
            counts.answers.fetch_add(1, Relaxed);
            counts.answer_bytes.fetch_add(bytes as u64, Relaxed);
            counts.micros.fetch_add(micros, Relaxed);
        }
    }

    /// What was counted of each API that was asked for at all.
    pub(super) fn all(&self) -> Vec<ApiCounts> {
        let counted = ApiKey::ALL.iter().filter_map(|api| {
            let counts = self.of(*api)?;
            Some(ApiCounts {
                api: *api,
                requests: counts.requests.load(Relaxed),
                request_bytes: counts.request_bytes.load(Relaxed),
                answers: counts.answers.load(Relaxed),
                answer_bytes: counts.answer_bytes.load(Relaxed),
                micros: counts.micros.load(Relaxed),
            })
        });
        counted.filter(|counts| counts.requests > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_their_api_and_every_api_has_its_place() {
        let counters = Counters::default();
        assert!(ApiKey::ALL.iter().all(|api| counters.of(*api).is_some()));
        assert_eq!(counters.all(), []);
        let taken = Instant::now();
        counters.taken(ApiKey::Fetch, 10);
        counters.taken(ApiKey::Fetch, 30);
        tokio::time::advance(Duration::from_millis(2)).await;
        counters.answered(ApiKey::Fetch, taken, 100);
        let wanted = ApiCounts {
            api: ApiKey::Fetch,
            requests: 2,
            request_bytes: 40,
            answers: 1,
            answer_bytes: 100,
            micros: 2_000,
        };
        assert_eq!(counters.all(), [wanted]);
    }
}

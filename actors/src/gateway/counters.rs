//! What a gateway counts for whoever watches it: requests, their bytes and their time, for each API.
//!
//! Counting is a few relaxed additions for each request; nothing is formatted, locked or allocated.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flumen_runtime::meters::{Timed, Timings};
use tokio::time::Instant;

use super::api::ApiKey;

/// More than the largest number of an API.
const APIS: usize = 128;

/// The counts of one API.
#[derive(Debug, Default)]
struct Api {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    answer_bytes: AtomicU64,
    time: Timings,
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
    /// Bytes of the answers.
    pub answer_bytes: u64,
    /// Times from when a request was taken up to its answer, each of which is counted; what a fetch
    /// waited for records is part of it.
    pub time: Timed,
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
            counts.time.note(taken.elapsed());
            counts.answer_bytes.fetch_add(bytes as u64, Relaxed);
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
                answer_bytes: counts.answer_bytes.load(Relaxed),
                time: counts.time.timed(),
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
        let all = counters.all();
        let [of] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((of.api, of.requests, of.request_bytes), (ApiKey::Fetch, 2, 40));
        assert_eq!((of.answer_bytes, of.time.count()), (100, 1));
        assert_eq!(of.time.total, Duration::from_millis(2));
    }
}

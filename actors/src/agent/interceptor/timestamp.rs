//! `timestamp`: the time at which an event came in, as a header.

use crate::agent::{
    event::{Event, Text},
    interceptor::Interceptor,
};

/// Sets a header to the milliseconds since 1970 at which the event's batch was read. Flume's
/// `timestamp` interceptor: `headerName` is `timestamp`, `preserveExisting` is false.
#[derive(Clone, Debug)]
pub struct Timestamp {
    header: Text,
    is_preserving: bool,
}

impl Default for Timestamp {
    fn default() -> Self {
        Self { header: "timestamp".into(), is_preserving: false }
    }
}

impl Timestamp {
    /// Sets the header `name` instead of `timestamp`.
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        self.header = name.into();
        self
    }

    /// Whether a header that is there stays as it is.
    #[must_use]
    pub fn preserving(mut self, is_preserving: bool) -> Self {
        self.is_preserving = is_preserving;
        self
    }
}

impl Interceptor for Timestamp {
    fn intercept(&mut self, mut events: Vec<Event>, now_ms: i64) -> Vec<Event> {
        let now: Text = now_ms.to_string().into();
        for event in &mut events {
            if !self.is_preserving || event.headers.get(&self.header).is_none() {
                event.headers.insert(self.header.clone(), now.clone());
            }
        }
        events
    }
}

//! `static`: the same header on every event.

use crate::agent::{
    event::{Event, Text},
    interceptor::Interceptor,
};

/// Sets one header to one value. Flume's `static` interceptor, whose `preserveExisting` is **true**.
#[derive(Clone, Debug)]
pub struct StaticHeader {
    name: Text,
    value: Text,
    is_preserving: bool,
}

impl StaticHeader {
    /// Sets the header `name` to `value` where it is not there yet.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), is_preserving: true }
    }

    /// Whether a header that is there stays as it is.
    #[must_use]
    pub fn preserving(mut self, is_preserving: bool) -> Self {
        self.is_preserving = is_preserving;
        self
    }
}

impl Interceptor for StaticHeader {
    fn intercept(&mut self, mut events: Vec<Event>, _now_ms: i64) -> Vec<Event> {
        for event in &mut events {
            if !self.is_preserving || event.headers.get(&self.name).is_none() {
                event.headers.insert(self.name.clone(), self.value.clone());
            }
        }
        events
    }
}

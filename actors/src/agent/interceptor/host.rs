//! `host`: the machine on which an event came in, as a header.

use crate::agent::{
    event::{Event, Text},
    interceptor::Interceptor,
};

/// Sets a header to the name of this machine. Flume's `host` interceptor: `hostHeader` is `host`,
/// `preserveExisting` is false. Flume puts an IP address there unless `useIP` is false; a machine has
/// many of those, so here it is the name, or what [`Host::named`] says.
#[derive(Clone, Debug)]
pub struct Host {
    header: Text,
    name: Text,
    is_preserving: bool,
}

impl Host {
    /// The name of this machine, as `uname -n` prints it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::named(&rustix::system::uname().nodename().to_string_lossy())
    }

    /// The name, or the address, that the header is to have.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { header: "host".into(), name: name.into(), is_preserving: false }
    }

    /// Sets the header `name` instead of `host`.
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

impl Interceptor for Host {
    fn intercept(&mut self, mut events: Vec<Event>, _now_ms: i64) -> Vec<Event> {
        for event in &mut events {
            if !self.is_preserving || event.headers.get(&self.header).is_none() {
                event.headers.insert(self.header.clone(), self.name.clone());
            }
        }
        events
    }
}

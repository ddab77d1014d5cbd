//! Who asks, and what they may: the two points that every request passes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytestring::ByteString;
use tokio::time::{Instant, timeout_at};

use super::{api::ApiKey, large::Turn, listener::Endpoint};

/// Longest wait, whatever the client allows: a connection that is gone may be noticed only then.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(300);

/// Who a client has shown itself to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Principal {
    /// Nobody asked it: Kafka's `User:ANONYMOUS`.
    #[default]
    Anonymous,
}

/// What a handler knows of a request beside its body.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Who asks.
    pub principal: Principal,
    /// Where it came in; answers name the addresses of this listener.
    pub listener: Endpoint,
    /// What the client calls itself.
    pub client_id: Option<ByteString>,
    /// Where the client is.
    pub peer: SocketAddr,
    /// What is asked.
    pub api: ApiKey,
    /// In which version.
    pub version: i16,
    /// Until when it waits for appends and changes: by its body, where that says so, and by the node's own
    /// limit. A fetch and the members of groups have terms of their own.
    pub deadline: Instant,
    /// How long the client must hold back, as [`throttle`] said.
    pub throttled: Duration,
    /// The turn of its answer, where that is large.
    pub(super) turn: Turn,
}

impl RequestContext {
    /// The same, of a request whose body gives it so much time. Where that is none, the node's own limit
    /// stays: in Kafka one replica makes nobody wait, so clients may ask for that and be answered.
    #[must_use]
    pub(super) fn within(mut self, timeout_ms: i32) -> Self {
        if let Ok(given @ 1..) = u64::try_from(timeout_ms) {
            self.deadline = self.deadline.min(Instant::now() + Duration::from_millis(given));
        }
        self
    }

    /// What `work` comes to; `None` where that is not known by the deadline. Past it nothing is begun, and
    /// what an actor has taken up goes on.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if Instant::now() >= self.deadline {
            return None;
        }
        timeout_at(self.deadline, work).await.ok()
    }

    /// How long the client must hold back, as answers say it.
    #[must_use]
    pub fn throttle_time_ms(&self) -> i32 {
        i32::try_from(self.throttled.as_millis()).unwrap_or(i32::MAX)
    }

    /// The client's name, as groups keep it: one that was no UTF-8 may have grown when it was read, and is
    /// cut to what can be told again.
    #[must_use]
    pub fn client_name(&self) -> Arc<str> {
        let name = self.client_id.as_deref().unwrap_or_default();
        name[..name.floor_char_boundary(i16::MAX as usize)].into()
    }

    /// The client's host, as groups show it.
    #[must_use]
    pub fn client_host(&self) -> Arc<str> {
        format!("/{}", self.peer.ip()).into()
    }
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Its records, offsets or members are read.
    Read,
    /// Records are written to it.
    Write,
    /// It is made.
    Create,
    /// It is deleted.
    Delete,
    /// It is changed.
    Alter,
    /// It is looked at.
    Describe,
}

/// What something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A group.
    Group(&'a str),
    /// All of it.
    Cluster,
}

/// Whether the one who asks may do `operation` to `resource`. Everybody may everything until there
/// are access rules; each handler asks here, and nowhere else. As in Kafka, whoever may connect is told
/// what the node speaks (ApiVersions) and where the nodes are (DescribeCluster, Metadata).
#[must_use]
pub fn authorize(_: &RequestContext, operation: Operation, resource: Resource<'_>) -> bool {
    rules::allow(operation, resource)
}

/// How long the client is to hold back: it is told so in the answer, and not read from meanwhile
/// (KIP-219). Nobody is throttled until there are quotas.
#[must_use]
pub fn throttle(_: &RequestContext, _request_bytes: usize) -> Duration {
    rules::pause()
}

/// None yet: no access rules, and no quotas.
#[cfg(not(test))]
mod rules {
    use super::{Duration, Operation, Resource};

    pub(super) const fn allow(_: Operation, _: Resource<'_>) -> bool {
        true
    }

    pub(super) const fn pause() -> Duration {
        Duration::ZERO
    }
}

/// Those of the test that runs on this thread; none by default.
#[cfg(test)]
pub(super) mod rules {
    use std::cell::Cell;

    use super::{Duration, Operation, Resource};

    #[derive(Clone, Copy)]
    pub(in crate::gateway) struct Rules {
        pub(in crate::gateway) allow: fn(Operation, Resource<'_>) -> bool,
        pub(in crate::gateway) pause: Duration,
    }

    pub(in crate::gateway) const NONE: Rules = Rules { allow: |_, _| true, pause: Duration::ZERO };

    thread_local! {
        static RULES: Cell<Rules> = const { Cell::new(NONE) };
    }

    /// The rules hold until what is returned is dropped.
    #[must_use]
    pub(in crate::gateway) fn set(rules: Rules) -> impl Drop {
        struct Hold;

        impl Drop for Hold {
            fn drop(&mut self) {
                RULES.set(NONE);
            }
        }

        RULES.set(rules);
        Hold
    }

    pub(super) fn allow(operation: Operation, resource: Resource<'_>) -> bool {
        (RULES.get().allow)(operation, resource)
    }

    pub(super) fn pause() -> Duration {
        RULES.get().pause
    }
}

//! Where a connection belongs: on an arbiter of the partitions that it writes or reads.
//!
//! ```text
//!   first Fetch, or the first few Produce ──► arbiters of their partitions ──► one: there
//!                                                                         └──► several: in turn
//! ```
//!
//! One Fetch names most of what is read; of what is written each request tells a part. Those that are
//! spread over several arbiters share them evenly: to where their first partition is, all clients of a
//! topic might go to the same.

use std::{
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
};

use flumen_runtime::{ids::ArbiterId, placement::Local};

use crate::broker::{names::TopicPartition, partition};

/// Whose turn it is among the connections that write, and among those that read, on several arbiters: they
/// come in pairs where a client does both.
#[derive(Debug, Default)]
pub(super) struct Homes {
    pub(super) writing: AtomicUsize,
    pub(super) reading: AtomicUsize,
}

/// Produce requests that are looked at.
pub(super) const LOOKS: u8 = 8;

/// A connection's search, until it has found where it belongs.
pub(super) struct Seeker {
    local: Rc<Local>,
    /// Where its partitions are, each once, in their order.
    seen: Vec<ArbiterId>,
    looks: u8,
}

impl Seeker {
    /// That of a connection which is on `local` now.
    pub(super) fn new(local: Rc<Local>) -> Self {
        Self { local, seen: Vec::new(), looks: 0 }
    }

    /// Looks at a request for `partitions`. Ends the search in `seeker` when `all` were named, or enough was
    /// seen; `turn` is whose turn it is among those that have to share.
    pub(super) fn look(
        seeker: &mut Option<Self>,
        partitions: &[TopicPartition],
        all: bool,
        turn: &AtomicUsize,
    ) -> Option<ArbiterId> {
        let search = seeker.as_mut()?;
        for partition in partitions {
            let name = partition::actor_name(partition);
            let place = search.local.services().places.get(name.as_str());
            if let Some(place) = place
                && let Err(at) = search.seen.binary_search(&place)
            {
                search.seen.insert(at, place);
            }
        }
        search.looks += 1;
        if !all && search.looks < LOOKS {
            return None;
        }
        let Self { local, seen, .. } = seeker.take()?;
        let home = match *seen {
            [] => return None,
            [only] => only,
            _ => seen[turn.fetch_add(1, Ordering::Relaxed) % seen.len()],
        };
        (home != local.arbiter()).then_some(home)
    }
}

//! A partition whose log cannot be opened for want of room on its disk, or of files that the process may
//! open: it opens by itself once there is some.
//!
//! Opening writes: what only the journal holds, indexes, a cut, the first files of a new log. Where
//! the disk refuses that because it is full, nothing is lost, and the whole opening is tried again,
//! after pauses that grow; also where it was a sync that found no room
//! ([`OpenError::lacks_room`](flumen_runtime::log::OpenError::lacks_room)). Meanwhile requests are refused as passing and not kept, for this may take
//! hours, and what waits holds permits that partitions on other disks need. Who asks to stop is
//! answered at once: there is nothing to close.

use std::{collections::VecDeque, time::Duration};

use actix::{AsyncContext, Context, SpawnHandle};

use super::{Partition, Stage, messages::OfflineError, opening::OpeningError, request::Request};

/// How long it waits before it tries again the first time; each pause is twice the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// See the module.
pub(super) struct NoRoom {
    /// What it answers meanwhile.
    pub(super) offline: OfflineError,
    /// Roles that it is to take up: these are told once.
    roles: VecDeque<Request>,
    timer: SpawnHandle,
}

impl Partition {
    /// Tries to open the log again in a while, unless it was asked to stop.
    pub(super) fn wait_for_room(
        &mut self,
        why: &OpeningError,
        remedy: &str,
        ctx: &mut Context<Self>,
    ) {
        let offline = self.offline(&why.to_string(), remedy, true);
        let Stage::Opening(waiting) = &mut self.stage else { return };
        let waiting = std::mem::take(waiting);
        if waiting.iter().any(|request| matches!(request, Request::Drain(_))) {
            self.stage = Stage::Offline(Box::new(self.offline("it is stopped", "retry", true)));
            return waiting.into_iter().for_each(|request| request.refuse(&offline));
        }
        if self.room_pause.is_zero() {
            tracing::warn!(
                partition = %offline.partition, reason = %offline.reason, %remedy,
                "a log is opened once that has passed"
            );
        }
        self.room_pause = (2 * self.room_pause).clamp(PAUSE_MIN, PAUSE_MAX);
        let timer = ctx.run_later(self.room_pause, Self::try_again);
        self.stage = Stage::NoRoom(Box::new(NoRoom { offline, roles: VecDeque::new(), timer }));
        waiting.into_iter().for_each(|request| self.serve_without_room(request, ctx));
    }

    fn try_again(&mut self, ctx: &mut Context<Self>) {
        let opening = Stage::Opening(VecDeque::new());
        let Stage::NoRoom(no_room) = std::mem::replace(&mut self.stage, opening) else {
            unreachable!("its timer goes when it stops")
        };
        self.stage = Stage::Opening(no_room.roles);
        self.open(ctx);
    }

    /// Answers what comes meanwhile.
    pub(super) fn serve_without_room(&mut self, request: Request, ctx: &mut Context<Self>) {
        let Stage::NoRoom(no_room) = &mut self.stage else { return };
        match request {
            Request::Assume(..) => no_room.roles.push_back(request),
            Request::Drain(_) => {
                ctx.cancel_future(no_room.timer);
                let stopped = self.offline("it is stopped", "retry", true);
                self.stop_serving(stopped.clone(), ctx);
                request.refuse(&stopped);
            }
            other => other.refuse(&no_room.offline),
        }
    }

    /// The log is open: that it lacked room is over.
    pub(super) fn has_room(&mut self) {
        if !std::mem::take(&mut self.room_pause).is_zero() {
            let partition = &self.shared.partition;
            tracing::info!(%partition, "there is room again: the log is open");
        }
    }
}

impl NoRoom {
    /// It will not open.
    pub(super) fn dismiss(self, offline: &OfflineError) {
        self.roles.into_iter().for_each(|request| request.refuse(offline));
    }
}

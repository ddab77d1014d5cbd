//! When something of a connection must have moved.

use std::{pin::Pin, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// The slowest line that a large request or answer is given time for, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// See the module.
pub(super) struct Clock {
    timer: Pin<Box<Sleep>>,
    /// When the client last sent a request or took a part of an answer.
    pub(super) last_moved: Instant,
    /// Since when too few bytes of a request have arrived, and how many had.
    pub(super) arriving: Option<(Instant, u64)>,
    /// Since when the socket is not read to its end, which is no fault of the client.
    unread_since: Option<Instant>,
    /// Since when too few bytes of answers have left, and how many had.
    pub(super) sending: Option<(Instant, u64)>,
}

/// What has `begun`; anew, at `now`, where nothing has, or so many bytes have `moved` since as the slowest line
/// moves `within` that time, whichever way they go.
pub(super) fn since(
    begun: Option<(Instant, u64)>,
    moved: u64,
    (now, within): (Instant, Duration),
) -> Option<(Instant, u64)> {
    let enough = SLOWEST.saturating_mul(within.as_secs().max(1));
    begun.filter(|(_, had)| moved < had.saturating_add(enough)).or(Some((now, moved)))
}

impl Clock {
    /// One that is looked at after `idle_max` at the latest.
    pub(super) fn new(idle_max: Duration) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(sleep_until(now + idle_max)),
            last_moved: now,
            arriving: None,
            unread_since: None,
            sending: None,
        }
    }

    /// Takes note of whether all that came `is_read`: as long as it is not, the client cannot send, and has
    /// that much longer.
    pub(super) fn note_read(&mut self, is_read: bool, now: Instant) {
        if !is_read {
            self.unread_since.get_or_insert(now);
            return;
        }
        let Some(since) = self.unread_since.take() else { return };
        let arriving = self.arriving.as_mut().map(|(begin, _)| begin);
        for begin in arriving.into_iter().chain([&mut self.last_moved]) {
            *begin += now - since.max(*begin);
        }
    }

    /// Has the connection take a turn at `next`, or before.
    pub(super) fn wake_at(&mut self, next: Instant, now: Instant, cx: &mut Context<'_>) {
        if self.timer.deadline() > next || self.timer.deadline() <= now {
            self.timer.as_mut().reset(next);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

//! Whether there is room on the disk, without asking too often.

use super::{Log, io::Work};

/// Bytes after whose writing the free room is looked at again.
const LOOK_BYTES: u64 = 16 << 20;
/// The same at a tick.
const LOOK_TICK_BYTES: u64 = 1 << 20;

/// What is known of the room on the log's file system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    is_below_floor: bool,
    /// The disk has refused something since it was looked at last.
    was_refused: bool,
    is_look_due: bool,
    unlooked_bytes: u64,
    /// Bytes above the floor, when it was looked at last.
    spare: u64,
}

impl Room {
    /// Whether nothing was refused: below the floor there is still room for what was taken.
    pub(super) fn is_there(self) -> bool {
        !self.was_refused
    }

    /// Bytes above the floor, less what this log has written since they were looked at.
    pub(super) fn spare(self) -> u64 {
        self.spare.saturating_sub(self.unlooked_bytes)
    }

    pub(super) fn note_written(&mut self, bytes: u64) {
        self.unlooked_bytes += bytes;
        self.is_look_due |= self.unlooked_bytes >= LOOK_BYTES;
    }

    /// The disk had no room: nothing more is tried before the next tick.
    pub(super) fn note_refusal(&mut self) {
        self.was_refused = true;
    }

    pub(super) fn note_free(&mut self, free: u64, floor: u64) {
        self.is_below_floor = free < floor;
        self.spare = free.saturating_sub(floor);
        self.was_refused = false;
    }

    pub(super) fn tick(&mut self) {
        let is_tight = self.is_below_floor || self.was_refused;
        self.is_look_due |= is_tight || self.unlooked_bytes >= LOOK_TICK_BYTES;
    }
}

impl Log {
    /// Whether the disk has less free room than the configured floor, or has refused a write:
    /// nothing should be appended, while reads and retention go on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room.is_below_floor || self.room.was_refused
    }

    /// Whether the disk has refused a write: it is made again, and all that waits for it goes on, once a
    /// look at the disk finds room.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        !self.room.is_there()
    }

    /// Takes note of how many bytes are free on the log's file system. The log looks by itself as
    /// it is written; this is for an owner that knows better.
    pub fn note_space(&mut self, free: u64) {
        self.room.note_free(free, self.config.free_floor_bytes);
    }

    pub(super) fn look_for_room(&mut self) -> Option<Work> {
        if !self.room.is_look_due || self.running.space {
            return None;
        }
        self.room.is_look_due = false;
        self.room.unlooked_bytes = 0;
        self.running.space = true;
        Some(Work::Space)
    }
}

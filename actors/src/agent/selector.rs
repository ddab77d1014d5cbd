//! Channel selectors: which channels of a source get an event.
//!
//! One so far, Flume's default: `replicating` gives every event to every channel. A *required*
//! channel holds the source back while it is full, and its failure is the source's; an *optional*
//! one gets what it has room for, and what it refuses is counted and forgotten
//! (`org.apache.flume.channel.ChannelProcessor`).

use crate::agent::channel::Channel;

/// Gives every event to all channels.
#[derive(Clone, Debug, Default)]
pub struct Replicating {
    /// Channels that must have every event.
    pub required: Vec<Channel>,
    /// Channels that get what they have room for.
    pub optional: Vec<Channel>,
}

impl Replicating {
    /// Only this channel, required.
    #[must_use]
    pub fn to(channel: Channel) -> Self {
        Self { required: vec![channel], optional: Vec::new() }
    }

    /// All channels, each with whether it is required.
    pub fn outlets(&self) -> impl Iterator<Item = (&Channel, bool)> {
        let required = self.required.iter().map(|channel| (channel, true));
        required.chain(self.optional.iter().map(|channel| (channel, false)))
    }
}

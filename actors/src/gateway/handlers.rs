//! What each API does, one family a file: from a decoded request, over messages to the actors in
//! charge, to a response.

pub(super) mod api_versions;
pub(super) mod cluster;
pub(super) mod configs;
pub(super) mod fetch;
pub(super) mod find_coordinator;
pub(super) mod groups;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod partitions;
pub(super) mod produce;
pub(super) mod producer_ids;
pub(super) mod topics;

//! What a gateway takes from its clients before it says no: every number is finite.

use std::time::Duration;

/// Limits of one node's gateway, with Kafka's name for each where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one request (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Most connections in all (`max.connections`).
    pub connections_max: usize,
    /// Most of them whatever is set later: more than that the process could not hold.
    pub connections_cap: usize,
    /// Most connections from one address (`max.connections.per.ip`).
    pub connections_per_address_max: usize,
    /// Most requests of one connection that are being worked on; more wait in the socket.
    pub requests_in_flight_max: usize,
    /// Bytes of requests that all connections together may hold (`queued.max.request.bytes`).
    pub request_bytes_max: usize,
    /// Bytes of fetched records that all connections together may hold until they are sent.
    pub answer_bytes_max: usize,
    /// Partitions that all fetch sessions together may follow; others are given no session. And so many
    /// may fetches wait for; others are answered at once.
    pub session_partitions_max: usize,
    /// How long a client may neither send a request nor take anything of an answer
    /// (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// How long a request may take to arrive once it has begun, and an answer to be taken where others wait
    /// for its room or it holds none; large ones get the time that a slow line needs on top.
    pub progress_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 100 << 20,
            connections_max: 20_000,
            connections_cap: usize::MAX,
            connections_per_address_max: 10_000,
            requests_in_flight_max: 64,
            request_bytes_max: 256 << 20,
            answer_bytes_max: 256 << 20,
            session_partitions_max: 500_000,
            idle_max: Duration::from_secs(600),
            progress_max: Duration::from_secs(30),
        }
    }
}

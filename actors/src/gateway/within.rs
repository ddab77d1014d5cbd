//! Connections from within the process: a pipe in the place of a socket, and all else as with any client.

use std::sync::{Mutex, PoisonError};

use flumen_runtime::supervision::{ChildSpec, Restart, StartChildError, StartError};
use tokio::io::DuplexStream;

use super::{
    Gateway,
    connection::{Carried, Connection, Parts},
    listener::{Endpoint, STOP_WITHIN, next_name},
    requests::Requests,
};

/// Bytes that a pipe holds in each direction.
const PIPE_BYTES: usize = 64 << 10;
/// Where such a client is.
const PEER: [u8; 4] = [127, 0, 0, 1];

impl Gateway {
    /// A connection of a client in this process, which speaks the protocol over a pipe. It takes none
    /// of the places that connections over the network are given.
    ///
    /// # Errors
    /// Where the node stops.
    pub async fn connect(&self) -> Result<DuplexStream, StartChildError> {
        self.connect_as(true).await
    }

    /// The same for whoever looks at the node's metrics: what it asks is not among what clients did.
    ///
    /// # Errors
    /// Where the node stops.
    pub async fn connect_uncounted(&self) -> Result<DuplexStream, StartChildError> {
        self.connect_as(false).await
    }

    async fn connect_as(&self, is_counted: bool) -> Result<DuplexStream, StartChildError> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let pipe = Mutex::new(Some(theirs));
        let shared = self.shared.clone();
        // Nobody else can come this way: answers that name it are for us.
        let endpoint = Endpoint { name: "within".into(), host: "within".into(), port: 0 };
        let (child, _) = ChildSpec::actor(next_name(), move |incarnation| {
            let pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = pipe.ok_or_else(|| StartError::new("a connection lives once"))?;
            let requests = Requests::new(shared.clone(), endpoint.clone(), (PEER, 0).into());
            let requests = if is_counted { requests } else { requests.uncounted() };
            let parts = Parts {
                stream,
                peer: "this process".into(),
                serve: Box::new(requests),
                limits: shared.limits.clone(),
                room: shared.request_room.clone(),
                kept: Box::new(()),
                carried: Carried::default(),
                goes_on: None,
            };
            Ok(Connection::new(incarnation, parts))
        });
        let child = child.restart(Restart::Temporary).stop_within(STOP_WITHIN);
        self.shared.connections.start_child(child).await?;
        Ok(ours)
    }
}

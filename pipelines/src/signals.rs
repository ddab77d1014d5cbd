//! How a person or a service manager tells the process to stop: Ctrl-C or SIGTERM.

use std::io;

use futures::future;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears both signals from the moment it is made; they no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the system lets nobody listen.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves at the next of them.
    pub async fn told_to_stop(&mut self) {
        let (terminated, interrupted) = (self.terminate.recv(), self.interrupt.recv());
        future::select(Box::pin(terminated), Box::pin(interrupted)).await;
    }
}

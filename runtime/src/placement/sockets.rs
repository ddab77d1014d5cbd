//! The sockets of an arbiter, known from outside, so that its peers learn that it is gone.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Shutdown, TcpStream},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Duplicates of the descriptors of an arbiter's sockets. Clones share them.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    sockets: BTreeMap<u64, OwnedFd>,
    /// The arbiter was given up: what comes now is shut down at once.
    over: bool,
}

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // A map and two numbers; nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the socket of which this is a duplicate shut down if its arbiter is given up while the guard
    /// lives.
    #[must_use]
    pub fn register(&self, duplicate: impl Into<OwnedFd>) -> SocketGuard {
        let mut open = self.lock();
        if open.over {
            shut_down(duplicate.into());
            return SocketGuard { sockets: self.clone(), id: u64::MAX };
        }
        let id = open.next;
        open.next += 1;
        open.sockets.insert(id, duplicate.into());
        SocketGuard { sockets: self.clone(), id }
    }

    /// Shuts all of them down, both ways: their peers see the end of the stream now, not when the
    /// wedged thread comes back.
    pub(crate) fn shut_down(&self) {
        let sockets = {
            let mut open = self.lock();
            open.over = true;
            std::mem::take(&mut open.sockets)
        };
        sockets.into_values().for_each(shut_down);
    }
}

fn shut_down(socket: OwnedFd) {
    // `shutdown(2)` is the same for sockets of every family. It fails where the peer is gone already.
    let _ = TcpStream::from(socket).shutdown(Shutdown::Both);
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("open", &self.lock().sockets.len()).finish()
    }
}

/// Takes its socket off the list when dropped.
#[derive(Debug)]
pub struct SocketGuard {
    sockets: Sockets,
    id: u64,
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.sockets.lock().sockets.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn the_peer_of_a_registered_socket_sees_the_end_of_the_stream() {
        let sockets = Sockets::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (forgotten, mut open) = UnixStream::pair().unwrap();
        let _guard = sockets.register(ours.try_clone().unwrap());
        drop(sockets.register(forgotten.try_clone().unwrap()));
        sockets.shut_down();
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
        open.set_nonblocking(true).unwrap();
        assert_eq!(open.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (late, mut theirs) = UnixStream::pair().unwrap();
        let _guard = sockets.register(late.try_clone().unwrap());
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
    }
}

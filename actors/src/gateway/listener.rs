//! A listener: takes connections on one address, and gives each an actor.
//!
//! ```text
//!   accept ──► a slot? ──► start_child(connection/<n>) ──► an arbiter, in turn
//!                └ none: closed at once, said in the log
//! ```
//!
//! # Failure
//! Permanent. The socket outlives the actor: a new life goes on accepting on it, and nobody who
//! connects meanwhile notices.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use flumen_runtime::{
    mailbox::Drain,
    placement::Place,
    supervision::{ChildSpec, Incarnation, Restart, StartError},
};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Shared,
    connection::{Carried, Connection, Move, Parts},
    requests::Requests,
    slots::Slot,
};

/// How long accepting rests when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);
/// How long a connection may take to finish what is in work when the node stops.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What clients are told of the way on which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name (Kafka's `listeners`).
    pub name: Arc<str>,
    /// Host that clients are told to connect to.
    pub host: Arc<str>,
    /// Port that clients are told to connect to.
    pub port: u16,
}

/// As in Kafka's `advertised.listeners`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.name, self.host, self.port)
    }
}

/// A bound address, and what clients are told of it.
#[derive(Clone, Debug)]
pub struct Bound {
    /// What clients are told.
    pub endpoint: Endpoint,
    socket: Arc<StdListener>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`: {error}; {}", remedy(error))]
pub struct BindError {
    /// The address.
    pub address: String,
    /// Why.
    #[source]
    pub error: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another port"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 are for root: choose another port",
        _ => "give HOST:PORT of this machine, such as 127.0.0.1:9092",
    }
}

impl Bound {
    /// Binds `address` (`HOST:PORT`); clients are told `advertise`, or the address itself.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(
        name: &str,
        address: &str,
        advertise: Option<(&str, u16)>,
    ) -> Result<Self, BindError> {
        let failed = |error| BindError { address: address.into(), error };
        let socket = StdListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let (host, port) = match advertise {
            Some((host, port)) => (host.to_owned(), port),
            None => (host_of(address, local), local.port()),
        };
        let endpoint = Endpoint { name: name.into(), host: host.into(), port };
        Ok(Self { endpoint, socket: Arc::new(socket) })
    }

    /// The address that it listens on.
    ///
    /// # Panics
    /// Where the system does not know it, which it does of every bound socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }
}

/// The host that clients reach `local` by: the one that was named, and of an address that stands for
/// all of a machine's the machine itself.
fn host_of(address: &str, local: SocketAddr) -> String {
    let named = address.rsplit_once(':').map_or("", |(host, _)| host);
    let named = named.trim_start_matches('[').trim_end_matches(']');
    match local.ip() {
        ip if ip.is_unspecified() => "localhost".into(),
        ip if named.is_empty() => ip.to_string(),
        _ => named.into(),
    }
}

/// See the module.
pub(super) struct Listener {
    shared: Arc<Shared>,
    bound: Bound,
    incarnation: Incarnation<Listener>,
}

/// The listener on `bound`, under supervision.
pub(super) fn child_spec(shared: Arc<Shared>, bound: Bound) -> ChildSpec {
    let name = format!("listener/{}", bound.endpoint.name);
    let (spec, _) = ChildSpec::actor(name, move |incarnation| {
        let (shared, bound) = (shared.clone(), bound.clone());
        Ok(Listener { shared, bound, incarnation: incarnation.clone() })
    });
    spec
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let listening = self.bound.socket.try_clone().and_then(TcpListener::from_std);
        match listening {
            Ok(socket) => {
                let accepting = accept(self.shared.clone(), self.bound.clone(), socket);
                ctx.spawn(accepting.into_actor(self));
            }
            Err(error) => self.incarnation.fail(error),
        }
    }
}

async fn accept(shared: Arc<Shared>, bound: Bound, socket: TcpListener) {
    // Before the catalogue is read there is no topic, and clients would take that for the truth.
    while shared.broker.ready().await.is_err() {
        tokio::time::sleep(REST).await;
    }
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => match shared.slots.take(peer.ip(), shared.connections_max()) {
                Ok(slot) => match ready(&bound, stream).await {
                    Ok(streams) => Begin::first(&shared, &bound, streams, peer, slot).start(),
                    Err(error) => tracing::debug!(%peer, %error, "a connection has ended"),
                },
                Err(why) => tracing::warn!(%peer, %why, "a connection was refused"),
            },
            Err(error) => rest(&bound, &error).await,
        }
    }
}

async fn rest(bound: &Bound, error: &io::Error) {
    tracing::warn!(listener = %bound.endpoint.name, %error, "cannot accept a connection");
    tokio::time::sleep(REST).await;
}

/// The name of another connection.
pub(super) fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("connection/{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The stream, and its duplicate for the list of its arbiter's sockets: who was accepted with the last
/// descriptor waits for another, as those do that were not accepted.
async fn ready(bound: &Bound, stream: TcpStream) -> io::Result<(StdStream, StdStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    loop {
        match stream.try_clone() {
            Ok(twin) => return Ok((stream, twin)),
            Err(error) => rest(bound, &error).await,
        }
    }
}

/// What a connection is begun with, and begun again where it moves to.
struct Begin {
    shared: Arc<Shared>,
    bound: Bound,
    stream: StdStream,
    /// Its duplicate.
    twin: StdStream,
    peer: SocketAddr,
    /// Its own as long as either life of it holds it.
    slot: Arc<Slot>,
    place: Place,
    carried: Carried,
}

impl Begin {
    /// A connection that was accepted.
    fn first(
        shared: &Arc<Shared>,
        bound: &Bound,
        (stream, twin): (StdStream, StdStream),
        peer: SocketAddr,
        slot: Slot,
    ) -> Self {
        let (shared, bound, slot) = (shared.clone(), bound.clone(), Arc::new(slot));
        let (place, carried) = (Place::Any, Carried::default());
        Self { shared, bound, stream, twin, peer, slot, place, carried }
    }

    /// Starts its actor.
    fn start(self) {
        let (peer, place) = (self.peer, self.place.clone());
        let connections = self.shared.connections.clone();
        // Taken by the one life that it has; in a box, since its place is kept as long as that lives.
        let slot = Arc::new(Mutex::new(Some(Box::new(self))));
        let take = |slot: &Mutex<Option<Box<Self>>>| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let taken = slot.clone();
        let (child, _) = ChildSpec::actor(next_name(), move |incarnation| {
            let begin = take(&taken);
            let begin = begin.ok_or_else(|| StartError::new("a connection lives once"))?;
            begin.connection(incarnation).map_err(StartError::new)
        });
        let child = child.restart(Restart::Temporary).place(place).stop_within(STOP_WITHIN);
        // As many of these are under way as there are slots.
        actix_rt::spawn(async move {
            if let Err(error) = connections.start_child(child).await {
                tracing::debug!(%peer, %error, "a connection was not begun");
                // A wedged arbiter may hold the child for ever, but not the socket.
                drop(take(&slot));
            }
        });
    }

    fn connection(
        self,
        incarnation: &Incarnation<Connection<TcpStream>>,
    ) -> io::Result<Connection<TcpStream>> {
        let Begin { shared, bound, stream, twin, peer, slot, place, carried } = self;
        let local = incarnation.local();
        let guard = local.sockets().register(twin);
        let mut requests = Requests::new(shared.clone(), bound.endpoint.clone(), peer);
        let goes_on: Option<Move<TcpStream>> = (place == Place::Any).then(|| {
            requests.seek_home(local.clone());
            let (shared, slot) = (shared.clone(), slot.clone());
            let go_on = move |stream: TcpStream, arbiter, carried| {
                let place = Place::On(arbiter);
                let twins = stream.into_std().and_then(|stream| Ok((stream.try_clone()?, stream)));
                match twins {
                    Ok((twin, stream)) => {
                        Begin { shared, bound, stream, twin, peer, slot, place, carried }.start();
                    }
                    Err(error) => tracing::warn!(%peer, %error, "a connection was not moved"),
                }
            };
            Box::new(go_on) as Move<TcpStream>
        });
        let parts = Parts {
            stream: TcpStream::from_std(stream)?,
            peer: peer.to_string().into(),
            serve: Box::new(requests),
            limits: shared.limits.clone(),
            room: shared.request_room.clone(),
            kept: Box::new((slot, guard)),
            carried,
            goes_on,
        };
        Ok(Connection::new(incarnation, parts))
    }
}

impl Handler<Drain> for Listener {
    type Result = ();

    /// Takes no more connections: ends with this, and the socket's queue is the next node's.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        self.incarnation.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_the_host_that_was_named() {
        let bound = |address| Bound::bind("plain", address, None).unwrap().endpoint;
        assert_eq!(&*bound("127.0.0.1:0").host, "127.0.0.1");
        assert_eq!(&*bound("localhost:0").host, "localhost");
        assert_eq!(&*bound("0.0.0.0:0").host, "localhost");
        let there = Bound::bind("plain", "127.0.0.1:0", Some(("broker.example", 19_092))).unwrap();
        let there = there.endpoint;
        assert_eq!((&*there.host, there.port), ("broker.example", 19_092));
    }

    #[test]
    fn an_address_in_use_is_refused_with_a_remedy() {
        let first = Bound::bind("a", "127.0.0.1:0", None).unwrap();
        let error = Bound::bind("b", &first.address().to_string(), None).unwrap_err();
        assert!(error.to_string().contains("another program listens there"), "{error}");
    }
}

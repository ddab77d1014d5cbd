//! A connection against a pipe, with an echo behind it.

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use flumen_runtime::{
    clock::ManualClock,
    credit::Credit,
    disk::sim::{Faults, SimDisks},
    placement::{LocalPlacement, Services},
    rng::Rng,
    sim,
    supervision::{ChildSpec, Restart, SupervisorRef, SupervisorSpec},
};
use futures::{FutureExt, channel::oneshot};
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;

/// What the echo has been given, and how it is to behave.
#[derive(Default)]
struct Told {
    frames: Vec<Vec<u8>>,
    /// Where room is from for what is decoded.
    decoded: Option<Credit>,
    /// Where room is from for answers.
    answers: Option<Credit>,
    /// Answers to these are given by the test.
    later: Vec<oneshot::Sender<()>>,
}

/// Answers each request with itself. `L…`: later; `N…`: no answer; `C…`: closes; `M…`: mutes for a
/// second, `P…` for a minute; `W…`: waits for the answers before it; `H…`: belongs elsewhere;
/// `R…`: needs room for what it is decoded to.
struct Echo(Rc<RefCell<Told>>);

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

impl Serve for Echo {
    fn serve(&mut self, frame: Frame) -> Reply {
        let mut told = self.0.borrow_mut();
        if frame.bytes.starts_with(b"R") && frame.decoded.is_none() {
            let room = told.decoded.as_ref().expect("there is such room").acquire(1, 10);
            return Reply::Not(frame, room);
        }
        told.frames.push(frame.bytes.to_vec());
        let mut answer = Answer::of([Bytes::from(framed(&frame.bytes))]);
        let room = told.answers.as_ref().map(|room| room.try_acquire(1, answer.len()));
        answer.permit = room.map(|room| room.expect("there is room for it"));
        match frame.bytes.first() {
            Some(b'L') => {
                let (release, released) = oneshot::channel();
                told.later.push(release);
                return Reply::Later(released.map(move |_| answer).boxed_local());
            }
            Some(b'N') => return Reply::Now(Answer::none()),
            Some(b'C') => return Reply::Now(Answer::close("it asked for it")),
            Some(b'M') => answer.mute = Duration::from_secs(1),
            Some(b'P') => answer.mute = Duration::from_secs(60),
            _ => {}
        }
        Reply::Now(answer)
    }

    fn must_wait(&self, frame: &Frame) -> bool {
        frame.bytes.starts_with(b"W")
    }

    fn home(&mut self, frame: &mut Frame) -> Option<ArbiterId> {
        frame.bytes.starts_with(b"H").then_some(ArbiterId(1))
    }

    fn recognise(&self, head: [u8; 4]) -> Option<String> {
        (head == *b"GET ").then(|| "it speaks of other things".into())
    }
}

struct Client {
    stream: DuplexStream,
    told: Rc<RefCell<Told>>,
    root: SupervisorRef,
    room: Room,
}

fn connect(limits: Limits) -> Client {
    connect_as(limits, |_| {})
}

/// The same, made otherwise by `change`.
fn connect_as(limits: Limits, change: impl FnOnce(&mut Parts<DuplexStream>)) -> Client {
    let disks = SimDisks::new(&Rng::seeded(1), Faults::none());
    let services = Services::new(Arc::new(ManualClock::at(0)), Rng::seeded(1), Arc::new(disks));
    let (stream, theirs) = tokio::io::duplex(64 << 10);
    let told = Rc::<RefCell<Told>>::default();
    let room = Room::new(limits.request_bytes_max);
    // The factory must be `Send`; on one thread, a slot of that thread will do.
    thread_local! {
        static PARTS: RefCell<Option<Parts<DuplexStream>>> = const { RefCell::new(None) };
    }
    let mut parts = Parts {
        stream: theirs,
        peer: "a test".into(),
        serve: Box::new(Echo(told.clone())),
        limits: Arc::new(limits),
        room: room.clone(),
        kept: Box::new(()),
        carried: Carried::default(),
        goes_on: None,
    };
    change(&mut parts);
    PARTS.with_borrow_mut(|slot| slot.replace(parts));
    let (child, _) = ChildSpec::actor("connection", |incarnation| {
        let parts = PARTS.with_borrow_mut(Option::take).expect("a temporary actor lives once");
        Ok(Connection::new(incarnation, parts))
    });
    let child = child.restart(Restart::Temporary);
    let root = SupervisorSpec::new("root").child(child).start(LocalPlacement::new(1, services));
    Client { stream, told, root, room }
}

impl Client {
    async fn send(&mut self, requests: &[&[u8]]) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| framed(request)).collect();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> Vec<u8> {
        let len = self.stream.read_u32().await.unwrap();
        let mut frame = vec![0; len as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        frame
    }

    async fn is_closed(&mut self) -> bool {
        self.stream.read_u8().await.is_err()
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn taken(&self) -> usize {
        self.told.borrow().frames.len()
    }
}

/// Runs `test` under paused time.
fn paused(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
}

#[test]
fn answers_come_in_the_order_of_requests_while_all_are_worked_on() {
    paused(async {
        let mut client = connect(Limits::default());
        client.send(&[b"L1", b"2", b"N", b"L3", b"4"]).await;
        client.settle().await;
        assert_eq!(client.taken(), 5, "none waits for another");
        let later = std::mem::take(&mut client.told.borrow_mut().later);
        for release in later.into_iter().rev() {
            release.send(()).unwrap();
        }
        for wanted in [&b"L1"[..], b"2", b"L3", b"4"] {
            assert_eq!(client.receive().await, wanted);
        }
        assert_eq!(client.room.out(), (0, 0));
    });
}

#[test]
fn a_request_larger_than_all_buffers_arrives_whole() {
    paused(async {
        let client = connect(Limits::default());
        let big: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let (mut read, mut write) = tokio::io::split(client.stream);
        let sent = [framed(&big), framed(b"x")].concat();
        let receive = async {
            let mut got = vec![0; sent.len()];
            read.read_exact(&mut got).await.unwrap();
            got
        };
        let (written, got) = futures::join!(write.write_all(&sent), receive);
        written.unwrap();
        assert!(got == sent);
    });
}

#[test]
fn requests_beyond_the_limit_wait_in_the_socket() {
    paused(async {
        let mut client = connect(Limits { requests_in_flight_max: 2, ..Limits::default() });
        client.send(&[b"L1", b"L2", b"3", b"4"]).await;
        client.settle().await;
        assert_eq!(client.taken(), 2);
        let later = std::mem::take(&mut client.told.borrow_mut().later);
        later.into_iter().for_each(|release| release.send(()).unwrap());
        for wanted in [&b"L1"[..], b"L2", b"3", b"4"] {
            assert_eq!(client.receive().await, wanted);
        }
    });
}

#[test]
fn requests_wait_for_the_node_s_room() {
    paused(async {
        let mut client = connect(Limits { request_bytes_max: 400, ..Limits::default() });
        let taken = client.room.of(90).acquire(1, 90).await;
        client.send(&[&[b'a'; 20], b"bc"]).await;
        client.settle().await;
        assert_eq!(client.taken(), 0);
        drop(taken);
        assert_eq!(client.receive().await, [b'a'; 20]);
        assert_eq!(client.receive().await, b"bc");
    });
}

#[test]
fn a_request_that_must_wait_is_taken_up_when_the_answers_before_it_have_left() {
    paused(async {
        let mut client = connect(Limits::default());
        client.send(&[b"L1", b"W2", b"3"]).await;
        client.settle().await;
        assert_eq!(client.taken(), 1);
        let release = client.told.borrow_mut().later.remove(0);
        release.send(()).unwrap();
        for wanted in [&b"L1"[..], b"W2", b"3"] {
            assert_eq!(client.receive().await, wanted);
        }
    });
}

#[test]
fn a_muted_connection_reads_nothing_until_its_time_is_over() {
    paused(async {
        let mut client = connect(Limits::default());
        let begin = Instant::now();
        client.send(&[b"M1"]).await;
        assert_eq!(client.receive().await, b"M1");
        client.settle().await;
        client.send(&[b"2"]).await;
        assert_eq!(client.receive().await, b"2");
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    });
}

#[test]
fn what_is_no_request_closes_the_connection() {
    paused(async {
        let mut client = connect(Limits::default());
        client.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(client.is_closed().await);
        let mut client = connect(Limits::default());
        client.send(&[b"1", b"C2"]).await;
        assert_eq!(client.receive().await, b"1");
        assert!(client.is_closed().await);
    });
}

/// What is logged of a peer that sends this, and hangs up then if it `goes`; and after how many seconds
/// it is let go.
fn logged(sent: Vec<u8>, goes: bool) -> (Vec<String>, u64) {
    let outcome = sim::run(1, &[], move |_| async move {
        // Whatever is sent may be a length.
        let limits = Limits {
            frame_bytes_max: i32::MAX as usize,
            request_bytes_max: usize::MAX,
            ..Limits::default()
        };
        let (begin, mut client) = (Instant::now(), connect(limits));
        client.stream.write_all(&sent).await.unwrap();
        if goes {
            client.stream.shutdown().await.unwrap();
        }
        client.stream.read_to_end(&mut Vec::new()).await.unwrap();
        client.settle().await;
        begin.elapsed().as_secs()
    });
    let lines = outcome.lines.into_iter().filter(|line| line.contains("a connection was closed"));
    (lines.collect(), outcome.result.unwrap())
}

#[test]
fn of_a_peer_that_never_sends_a_request_one_line_says_what_it_sent() {
    let whole = |rest: &[u8]| [&framed(b"1"), rest].concat();
    for (sent, goes, said, after) in [
        (
            b"GET /index.html HTTP/1.1\r\n".to_vec(),
            false,
            Some(
                r#"why=it speaks of other things; what it sent begins with "GET /index.html HTTP/1.1"…"#,
            ),
            0,
        ),
        (
            b"\0\0\0\x10garbage".to_vec(),
            false,
            Some(r#"too little progress; what it sent begins with "\x00\x00\x00\x10garbage""#),
            30,
        ),
        (
            b"\0\0\0\x10garbage".to_vec(),
            true,
            Some(r#"the client is gone; what it sent begins with "\x00\x00\x00\x10garbage""#),
            0,
        ),
        (b"\0\x01".to_vec(), true, Some(r#"gone; what it sent begins with "\x00\x01""#), 0),
        (Vec::new(), true, None, 0),
        // Of a client nothing is quoted: it may be what others must not read.
        (whole(b"\0\0\0\x10secret"), true, None, 0),
        (whole(b"\0\0\0\x10secret"), false, Some("a request made too little progress"), 30),
        (framed(b"C"), true, Some("why=it asked for it"), 0),
        (whole(b"\xff\xff\xff\xffsecret"), false, Some("a request of -1 bytes was announced"), 0),
    ] {
        let what = sent.escape_ascii().to_string();
        let (lines, waited) = logged(sent, goes);
        assert_eq!(
            (lines.len(), waited),
            (usize::from(said.is_some()), after),
            "{what}: {lines:?}"
        );
        for (line, said) in lines.iter().zip(said) {
            assert!(line.contains(said) && !line.contains("secret"), "{what}: {line}");
        }
    }
}

#[test]
fn a_silent_client_and_one_that_dribbles_are_let_go() {
    paused(async {
        let begin = Instant::now();
        let mut client = connect(Limits::default());
        assert!(client.is_closed().await);
        assert_eq!(begin.elapsed().as_secs(), 600, "idle");

        let begin = Instant::now();
        let client = connect(Limits::default());
        let (mut read, mut write) = tokio::io::split(client.stream);
        let dribble = async {
            for byte in framed(&[0; 1_000]) {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let closed = async { (read.read_u8().await.is_err(), begin.elapsed().as_secs()) };
        let ((), (is_closed, after)) = futures::join!(dribble, closed);
        assert!(is_closed && after < 40, "{after} s");
    });
}

#[test]
fn time_in_which_nobody_reads_is_not_held_against_the_client() {
    paused(async {
        // Muted for a minute, with half a request read, of which the rest waits in the socket.
        let begin = Instant::now();
        let mut client = connect(Limits::default());
        let request = framed(&[b'x'; 1_000]);
        let sent = [&framed(b"P"), &request[..500]].concat();
        client.stream.write_all(&sent).await.unwrap();
        assert_eq!(client.receive().await, b"P");
        client.stream.write_all(&request[500..900]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(70)).await;
        client.stream.write_all(&request[900..]).await.unwrap();
        assert_eq!(client.receive().await, [b'x'; 1_000]);

        // But for what it does not send once it is read again, it has no more time than others.
        client.stream.write_all(&sent).await.unwrap();
        assert_eq!(client.receive().await, b"P");
        assert!(client.is_closed().await);
        assert_eq!(begin.elapsed().as_secs(), 70 + 60 + 30);

        // Nor is it idle while its request waits for the node's room.
        let mut client = connect(Limits { request_bytes_max: 400, ..Limits::default() });
        let taken = client.room.of(90).acquire(1, 90).await;
        client.send(&[&[b'a'; 20]]).await;
        tokio::time::sleep(Duration::from_secs(900)).await;
        drop(taken);
        assert_eq!(client.receive().await, [b'a'; 20]);
    });
}

#[test]
fn a_client_that_takes_no_answers_is_let_go() {
    paused(async {
        let mut client = connect(Limits::default());
        let big = vec![b'x'; 60_000];
        let begin = Instant::now();
        while client.stream.write_all(&framed(&big)).await.is_ok() {}
        assert!(begin.elapsed().as_secs() <= 61, "{:?}", begin.elapsed());
        assert!(client.taken() < 40, "what it sent beyond the limit was not taken up");
    });
}

/// One that begins to read its answer after so many milliseconds, and reads so many bytes at a time, each so
/// many milliseconds after those before; somebody else wants room for an answer, or nobody. Whether it gets
/// all of it.
async fn gets_all((first_ms, every_ms, taken): (u64, u64, usize), is_wanted: bool) -> bool {
    let client = connect(Limits::default());
    let sent = framed(&vec![b'x'; 8 << 20]);
    let room = Credit::new(1, sent.len());
    client.told.borrow_mut().answers = Some(room.clone());
    let (mut read, mut write) = tokio::io::split(client.stream);
    write.write_all(&sent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(first_ms)).await;
    let _other = is_wanted.then(|| room.acquire(1, 1));
    let (mut got, mut part) = (0, vec![0; taken]);
    while got < sent.len() {
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        match read.read(&mut part).await {
            Ok(0) | Err(_) => break,
            Ok(read) => got += read,
        }
    }
    got == sent.len()
}

/// Whoever takes a little of an answer now and then would hold for ever the room that others want.
#[test]
fn a_client_that_takes_its_answers_in_drops_is_let_go_where_others_want_its_room() {
    paused(async {
        assert!(!gets_all((1, 29_000, 1_400), true).await);
        assert!(gets_all((1, 500, 64 << 10), true).await, "this is a slow line");
        assert!(gets_all((1, 29_000, 14_000), false).await, "it is in nobody's way");
    });
}

/// As a consumer in Java does that was told its partitions, and works for minutes on what it has.
#[test]
fn a_client_that_reads_minutes_later_gets_its_answer_unless_others_want_its_room() {
    paused(async {
        assert!(gets_all((300_000, 0, 64 << 10), false).await);
        assert!(!gets_all((300_000, 1_100, 64 << 10), true).await);
        assert!(
            !gets_all((601_000, 0, 64 << 10), false).await,
            "it is gone, as far as one can know"
        );
    });
}

#[test]
fn a_stop_lets_what_is_in_work_be_answered_and_takes_no_more() {
    paused(async {
        let mut client = connect(Limits::default());
        client.send(&[b"L1"]).await;
        client.settle().await;
        let root = client.root.clone();
        let stopping = tokio::task::spawn_local(async move { root.stop().await });
        client.settle().await;
        client.send(&[b"2"]).await;
        client.settle().await;
        let release = client.told.borrow_mut().later.remove(0);
        release.send(()).unwrap();
        assert_eq!(client.receive().await, b"L1");
        assert_eq!(client.taken(), 1);
        assert!(client.is_closed().await);
        stopping.await.unwrap();
        assert_eq!(client.taken(), 1);
    });
}

#[test]
fn large_requests_that_are_sent_slowly_hold_up_no_small_ones_and_are_let_go() {
    paused(async {
        let limits = Limits { request_bytes_max: 8 << 20, ..Limits::default() };
        let begin = Instant::now();
        let mut client = connect(limits);
        // All the room for large ones is announced, and next to nothing is sent.
        client.stream.write_all(&(6_u32 << 20).to_be_bytes()).await.unwrap();
        client.stream.write_all(b"x").await.unwrap();
        client.settle().await;
        assert_eq!(client.room.out(), (1, 6 << 20));
        let small = client.room.of(1_000).try_acquire(1, 1_000);
        assert!(small.is_ok());
        drop(small);
        assert!(client.is_closed().await);
        assert!(begin.elapsed().as_secs() <= 31, "{:?}", begin.elapsed());
        assert_eq!(client.room.out(), (0, 0));
    });
}

#[test]
fn a_large_request_over_a_slow_line_gets_its_time() {
    paused(async {
        let client = connect(Limits::default());
        let sent = framed(&vec![b'x'; 8 << 20]);
        let begin = Instant::now();
        let (mut read, mut write) = tokio::io::split(client.stream);
        let send = async {
            for part in sent.chunks(100 << 10) {
                write.write_all(part).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut got = vec![0; sent.len()];
        let (_, read) = futures::join!(send, read.read_exact(&mut got));
        read.unwrap();
        assert!(got == sent && begin.elapsed().as_secs() > 60);
    });
}

/// A node may have no descriptor left: a move takes none.
#[test]
fn a_connection_that_moves_gives_up_its_place_and_hands_over_the_stream_that_it_has() {
    struct Place(Rc<Cell<bool>>);

    impl Drop for Place {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    paused(async {
        let (is_free, went) = (Rc::<Cell<bool>>::default(), Rc::<Cell<_>>::default());
        let mut client = connect_as(Limits::default(), |parts| {
            parts.kept = Box::new(Place(is_free.clone()));
            let (is_free, went) = (is_free.clone(), went.clone());
            parts.goes_on = Some(Box::new(move |stream, arbiter, carried| {
                went.set(Some((is_free.get(), stream, arbiter, carried)));
            }));
        });
        client.send(&[b"L1", b"H2", b"3"]).await;
        client.settle().await;
        assert!(went.take().is_none(), "it goes only while nothing is in work");
        let release = client.told.borrow_mut().later.pop().expect("it was taken up");
        release.send(()).expect("it is waited for");
        assert_eq!(client.receive().await, b"L1");
        client.settle().await;
        let (was_free, mut stream, arbiter, carried) = went.take().expect("it went on");
        assert_eq!((was_free, arbiter), (true, ArbiterId(1)));
        assert_eq!(&carried.held.expect("it says where to").bytes[..], b"H2");
        assert_eq!(carried.unread, framed(b"3"));
        stream.write_all(b"x").await.unwrap();
        assert_eq!(client.stream.read_u8().await.unwrap(), b'x');
    });
}

#[test]
fn a_request_that_is_decoded_to_more_than_there_is_room_for_waits_for_it_and_others_behind_it() {
    paused(async {
        let mut client = connect(Limits::default());
        let room = Credit::new(100, 10);
        client.told.borrow_mut().decoded = Some(room.clone());
        let taken = room.try_acquire(1, 1).unwrap();
        client.send(&[b"L1", b"R2", b"3"]).await;
        client.settle().await;
        assert_eq!(client.taken(), 1);
        drop(taken);
        client.settle().await;
        assert_eq!(client.taken(), 3, "it does not wait for the answers before it");
        let release = client.told.borrow_mut().later.remove(0);
        release.send(()).unwrap();
        for wanted in [&b"L1"[..], b"R2", b"3"] {
            assert_eq!(client.receive().await, wanted);
        }
        assert_eq!((client.room.out(), room.out().count), ((0, 0), 0));

        // Who goes meanwhile leaves no place behind.
        let taken = room.try_acquire(1, 1).unwrap();
        client.send(&[b"R4"]).await;
        client.settle().await;
        drop(client.stream);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(taken);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(room.out().count, 0);
    });
}

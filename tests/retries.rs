//! Other people's idempotent producers, whose answers get lost: each record is there once, in order.
//!
//! Between client and node stands a proxy that lets a Produce request through, waits for its answer, and
//! then breaks the connection instead of passing it on. So the node has taken what the client must believe
//! lost, and sends again with all that was on its way behind it.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "cli/program.rs"]
#[expect(dead_code, reason = "what other tests of the program need")]
mod program;

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use program::{Place, skip};

/// The longest that a script may take, in seconds.
const PATIENCE: &str = "300";
/// Of so many Produce requests one is answered to nobody.
const EVERY: u64 = 7;
/// So many answers must have been withheld: fewer would not be a test.
const WITHHELD_MIN: u64 = 20;

const PRODUCE: [u8; 2] = [0, 0];

/// Counts of all connections.
#[derive(Default)]
struct Counts {
    produced: AtomicU64,
    withheld: AtomicU64,
}

/// One connection: both of its ends, and the requests whose answers are withheld.
struct Line {
    client: TcpStream,
    node: TcpStream,
    withheld: Mutex<BTreeSet<[u8; 4]>>,
    counts: Arc<Counts>,
}

impl Line {
    /// Passes frames on until one end is gone, or `passes` says that this one does not go through; then
    /// nothing goes through any more.
    fn pass(&self, from: &TcpStream, to: &TcpStream, passes: impl Fn(&[u8]) -> bool) {
        let (mut from, mut to) = (from, to);
        while let Ok(frame) = read_frame(&mut from) {
            if !passes(&frame) || to.write_all(&frame).is_err() {
                break;
            }
        }
        // The other end may be gone already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.node.shutdown(Shutdown::Both);
    }

    /// Length, API, version, correlation id.
    fn request(&self, frame: &[u8]) -> bool {
        if frame[4..6] == PRODUCE
            && self.counts.produced.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1
        {
            self.withheld.lock().unwrap().insert(frame[8..12].try_into().unwrap());
        }
        true
    }

    /// Length, correlation id.
    fn answer(&self, frame: &[u8]) -> bool {
        let id: [u8; 4] = frame[4..8].try_into().unwrap();
        let is_withheld = self.withheld.lock().unwrap().contains(&id);
        self.counts.withheld.fetch_add(u64::from(is_withheld), Ordering::Relaxed);
        !is_withheld
    }
}

/// A frame with its length.
fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes(frame[..].try_into().unwrap()) as usize;
    assert!((4..100 << 20).contains(&length), "a frame of {length} bytes");
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Stands in front of `node` for as long as the process lives.
fn serve(listener: TcpListener, node: SocketAddr, counts: Arc<Counts>) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let line = Arc::new(Line {
                client: client.unwrap(),
                node: TcpStream::connect(node).unwrap(),
                withheld: Mutex::default(),
                counts: counts.clone(),
            });
            line.client.set_nodelay(true).unwrap();
            line.node.set_nodelay(true).unwrap();
            let there = line.clone();
            thread::spawn(move || there.pass(&there.client, &there.node, |it| there.request(it)));
            thread::spawn(move || line.pass(&line.node, &line.client, |it| line.answer(it)));
        }
    });
}

/// Runs a script against a node behind a proxy, whose address stands for `{node}`.
#[track_caller]
fn retry(command: &str) {
    let Some(place) = Place::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let node = place.start(&format!("serve --listen 127.0.0.1:0 --advertise {proxy} --data data"));
    node.has_said("listening on ");
    let counts = Arc::new(Counts::default());
    serve(listener, node.word_after("listening on ").parse().unwrap(), counts.clone());
    let output = Command::new("timeout")
        .arg(PATIENCE)
        .args(command.replace("{node}", &proxy.to_string()).split(' '))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{said}{complaint}\n{}", output.status, node.said());
    let withheld = counts.withheld.load(Ordering::Relaxed);
    assert!(withheld >= WITHHELD_MIN, "{withheld} answers were withheld");
    eprintln!("{}: {withheld} answers were withheld", said.trim_end());
}

/// Runs a script, made from where `tests/run` says that what it needs is.
#[track_caller]
fn retry_with(variable: &str, command: impl Fn(&str) -> String) {
    match std::env::var(variable) {
        Ok(found) => retry(&command(&found)),
        Err(_) => skip(&format!("{variable} is not set: run `tests/run --test retries`")),
    }
}

#[test]
fn librdkafka_s_retries_leave_each_record_once_and_in_order() {
    retry_with("FLUMEN_PYTHON", |python| {
        format!("{python} tests/clients/python/retries.py {{node}}")
    });
}

#[test]
fn kcat_s_retries_leave_each_record_once_and_in_order() {
    match Command::new("kcat").arg("-V").output() {
        Ok(_) => retry("tests/clients/kcat.sh {node} retries"),
        Err(_) => skip("kcat is not there: `tests/run --test retries` installs it"),
    }
}

#[test]
fn java_s_retries_leave_each_record_once_and_in_order() {
    let options = "-XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error";
    retry_with("FLUMEN_KAFKA_CLIENTS", |jars| {
        format!("java {options} -cp {jars}/* tests/clients/java/Retries.java {{node}}")
    });
}

#[test]
fn kafka_python_s_retries_leave_each_record_once_and_in_order() {
    retry_with("FLUMEN_PYTHON", |python| {
        format!("{python} tests/clients/python/kafka_python.py {{node}} retries")
    });
}

#[test]
fn aiokafka_s_retries_leave_each_record_once_and_in_order() {
    retry_with("FLUMEN_PYTHON", |python| {
        format!("{python} tests/clients/python/aio.py {{node}} retries")
    });
}

#[test]
fn kafkajs_s_retries_leave_each_record_once_and_in_order() {
    retry_with("FLUMEN_NODE_CLIENTS", |modules| {
        let script = "tests/clients/node/kafkajs.js";
        format!("env NODE_PATH={modules}/node_modules node {script} {{node}} retries")
    });
}

#[test]
fn franz_go_s_retries_leave_each_record_once_and_in_order() {
    retry_with("FLUMEN_GO_CLIENTS", |clients| format!("{clients} {{node}} franz-retries"));
}

#[test]
fn sarama_s_retries_leave_each_record_once_and_in_order() {
    retry_with("FLUMEN_GO_CLIENTS", |clients| format!("{clients} {{node}} sarama-retries"));
}

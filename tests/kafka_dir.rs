//! The log directory of a real Kafka that has stopped opens in ours: its records, producers and groups
//! are there, for the same clients at the same address, of a new Kafka as of the oldest that is promised.
//! What is not as a clean stop leaves it is refused.
//!
//! `tests/run` fetches Kafka and the clients, and says where they are.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "kafka_dir/kafka.rs"]
mod kafka;
#[path = "cli/program.rs"]
#[expect(dead_code, reason = "what other tests of the program need")]
mod program;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use flumen_actors::broker::partition::replay::Replayed;

use self::{
    kafka::Kafka,
    program::{Place, skip},
};

fn found(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        skip(&format!("{variable} is not set: run `tests/run --test kafka_dir`, which sets it"));
    }
    found
}

/// The client, and what it says line by line; it is ready when this returns.
fn client(python: &str, address: &str, mode: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(python)
        .args(["tests/kafka_dir/client.py", address, mode])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "what the client complains of stands above");
    (child, said)
}

/// What each of these tests needs: the program, the Kafka that a variable names, and Python with its
/// clients.
fn needs(kafka: &str) -> Option<(Place, Kafka, String)> {
    let (jars, python) = (found(kafka)?, found("FLUMEN_PYTHON")?);
    Some((Place::new()?, Kafka::new(jars), python))
}

fn everything_is_found(kafka: &str) {
    let Some((place, kafka, python)) = needs(kafka) else { return };
    let running = kafka.start();
    let (mut child, mut said) = client(&python, &kafka.address, "all");
    running.stop();
    let data = kafka.data();
    let serve = format!("serve --listen {} --data {}", kafka.address, data.display());
    // Only who serves takes over: what merely reads must not change it for good.
    place.refuse(&format!("topics --data {}", data.display()), &["Kafka", "`flumen serve`"]);
    let node = place.start(&serve);
    node.has_said("listening on");
    for words in ["took over", "Kafka does not open them any more", "retention.ms=-1"] {
        node.has_said(words);
    }
    node.has_said("__cluster_metadata-0");
    // What Kafka knew of the idempotent producer, before that goes on.
    let state = fs::read(data.join("plain-0/00000000000000000300.snapshot")).unwrap();
    let producers = Replayed::restored(&state).unwrap().producers.describe();
    assert_eq!(producers.iter().map(|status| status.last_sequence).collect::<Vec<_>>(), [299]);
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success(), "the node said: {}", node.said());
    assert_eq!(line, "all is there\n");
    assert!(node.terminate().status.success());
    // It is ours now, like any other.
    let again = place.start(&serve);
    again.has_said("listening on");
    let said = again.terminate();
    assert!(said.status.success() && !said.err.contains("took over"), "{}", said.err);
}

#[test]
fn clients_of_a_kafka_that_stopped_find_everything_at_the_node_that_takes_it_over() {
    everything_is_found("FLUMEN_KAFKA");
}

#[test]
fn clients_of_the_oldest_kafka_find_everything_at_the_node_that_takes_it_over() {
    everything_is_found("FLUMEN_OLDEST_KAFKA");
}

#[test]
fn a_kafka_that_was_killed_or_left_a_transaction_open_is_refused_and_starts_again() {
    let Some((place, kafka, python)) = needs("FLUMEN_KAFKA") else { return };
    let running = kafka.start();
    let (mut child, _said) = client(&python, &kafka.address, "open");
    child.wait().unwrap();
    assert!(running.out().exists());
    running.kill();
    let serve = format!("serve --listen 127.0.0.1:0 --data {}", kafka.data().display());
    place.refuse(&serve, &["Kafka did not stop in order", "start it and stop it"]);
    kafka.start().stop();
    let before = fs::read_to_string(kafka.data().join("meta.properties")).unwrap();
    place.refuse(&serve, &["undecided-0", "an open transaction", "kafka-transactions.sh abort"]);
    let after = fs::read_to_string(kafka.data().join("meta.properties")).unwrap();
    assert_eq!(before, after, "it is Kafka's still");
    kafka.start().stop();
}

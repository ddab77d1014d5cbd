//! Other people's clients against a live node: each script of `tests/clients/` makes topics, writes with
//! every codec that its client has, reads in groups, seeks, commits and administers, and ends with code 0.
//!
//! `tests/run` installs the clients and says where they are, in the variables that begin with `FLUMEN_`.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "cli/program.rs"]
#[expect(dead_code, reason = "what other tests of the program need")]
mod program;

use std::process::{Command, Stdio};

use program::{Place, skip};

/// The longest that a script may take, in seconds, on a machine that has much else to do.
const PATIENCE: &str = "240";

/// Each script with its command; one whose client is not there is named and left out.
fn scripts() -> Vec<(&'static str, Vec<String>)> {
    let has_kcat = Command::new("kcat").arg("-V").output().is_ok();
    let python = |script: &str| {
        found("FLUMEN_PYTHON", |python| format!("{python} tests/clients/python/{script}"))
    };
    let scripts = [
        ("kcat", has_kcat.then(|| "tests/clients/kcat.sh".to_owned())),
        ("confluent-kafka", python("confluent.py")),
        ("kafka-python", python("kafka_python.py")),
        ("aiokafka", python("aio.py")),
        ("Kafka's clients for Java", found("FLUMEN_KAFKA_CLIENTS", java)),
        (
            "Kafka's tools",
            found("FLUMEN_KAFKA_TOOLS", |_| "tests/clients/java/tools.sh".to_owned()),
        ),
        ("franz-go and sarama", found("FLUMEN_GO_CLIENTS", str::to_owned)),
        ("kafkajs", found("FLUMEN_NODE_CLIENTS", kafkajs)),
    ];
    let mut there = Vec::new();
    for (name, command) in scripts {
        match command {
            Some(command) => there.push((name, command.split(' ').map(str::to_owned).collect())),
            None => {
                skip(&format!("{name} cannot be tried: `tests/run --test clients` installs it"))
            }
        }
    }
    there
}

/// The command, where `tests/run` has said where what it needs is.
fn found(variable: &str, command: impl Fn(&str) -> String) -> Option<String> {
    std::env::var(variable).ok().map(|found| command(&found))
}

fn java(jars: &str) -> String {
    let options = "-XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    format!("java {options} -cp {jars}/* tests/clients/java/Client.java")
}

/// Node.js looks for modules beside the script, or where this variable says.
fn kafkajs(modules: &str) -> String {
    format!("env NODE_PATH={modules}/node_modules node tests/clients/node/kafkajs.js")
}

#[test]
fn other_people_s_clients_find_a_kafka() {
    let Some(place) = Place::new() else { return };
    // Nobody waits for members that do not come: the scripts form many groups.
    let delay = "--set group.initial.rebalance.delay.ms=0";
    let node = place.start(&format!("serve --listen 127.0.0.1:0 --data data {delay}"));
    node.has_said("listening on ");
    let address = node.word_after("listening on ");
    let mut failed = Vec::new();
    for (name, command) in scripts() {
        let output = Command::new("timeout")
            .arg(PATIENCE)
            .args(command)
            .arg(&address)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        eprint!("{said}");
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            failed.push(format!("{name}: {}\n{said}{complaint}", output.status));
        }
    }
    let said = node.terminate();
    assert!(failed.is_empty(), "{}\nthe node: {}", failed.join("\n"), said.err);
    assert!(said.status.success(), "{}", said.err);
    said.tells(&["stopping"]);
}

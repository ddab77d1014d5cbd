//! Other people's clients against a live node: each script of `tests/clients/` makes topics, writes with
//! every codec that its client has, reads in groups, seeks, commits and administers, and ends with code 0.
//!
//! `tests/run` installs the clients and says where they are: `FLUMEN_PYTHON`.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "cli/program.rs"]
#[expect(dead_code, reason = "what other tests of the program need")]
mod program;

use std::process::{Command, Stdio};

use program::{Place, skip};

/// The longest that a script may take, in seconds, on a machine that has much else to do.
const PATIENCE: &str = "120";

/// A script and what runs it.
fn scripts() -> Vec<(&'static str, Vec<String>)> {
    let mut scripts = Vec::new();
    let mut add = |name, what: &str, with: Option<Vec<String>>| match with {
        Some(command) => scripts.push((name, command)),
        None => skip(&format!(
            "there is no {what}, so `{name}` cannot run: `tests/run clients` installs it"
        )),
    };
    let found = |name: &str| std::env::var(name).ok();
    let has_kcat = Command::new("kcat").arg("-V").output().is_ok();
    add("kcat", "kcat", has_kcat.then(|| vec!["tests/clients/kcat.sh".into()]));
    for name in ["confluent", "kafka_python", "aio"] {
        let python = found("FLUMEN_PYTHON");
        let script = format!("tests/clients/python/{name}.py");
        add(name, "FLUMEN_PYTHON", python.map(|python| vec![python, script]));
    }
    scripts
}

#[test]
fn other_people_s_clients_find_a_kafka() {
    let Some(place) = Place::new() else { return };
    let node = place.start("serve --listen 127.0.0.1:0 --data data");
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

//! We and Kafka's own message classes read what the other writes, in every version that the other codec
//! lacks: a small program on the Java machine has them read and write for us (`jvm/Messages.java`).

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use bytes::Bytes;
use flumen_actors::gateway::{
    api::ApiKey,
    messages::{
        api_versions::{ApiVersionsRequest, ApiVersionsResponse},
        delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse},
        describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse},
        list_offsets::{ListOffsetsRequest, ListOffsetsResponse},
        offset_commit::{OffsetCommitRequest, OffsetCommitResponse},
        offset_fetch::{OffsetFetchRequest, OffsetFetchResponse},
    },
};
use flumen_runtime::rng::Rng;

use crate::{Tested, golden::COVERED};

/// How many messages are drawn of each, by us and by them.
const DRAWS: u64 = 150;

/// What they are to do, and what is to be said of the answer.
struct Task {
    command: String,
    judge: Box<dyn Fn(Bytes)>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Bytes {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16);
    (0..text.len()).step_by(2).map(|at| digits(at).unwrap()).collect()
}

/// They must write again, byte for byte, what we drew; and we what they drew, having read all of it.
fn tasks<M: Tested + 'static>(kind: &'static str) -> Vec<Task> {
    let (api, version) = *COVERED.iter().find(|(api, _)| *api == M::API).unwrap();
    let what = format!("{} {kind} {version}", api.number());
    let mut rng = Rng::seeded(2).split(&what);
    let ours = (0..DRAWS).map(|_| {
        let message = M::sample(&mut rng, M::version(version));
        let (written, what) = (message.body(version), what.clone());
        let command = format!("read {what} {}", hex(&written));
        let judge = move |again: Bytes| assert_eq!(again, written, "{what}: {message:?}");
        Task { command, judge: Box::new(judge) }
    });
    let ours: Vec<Task> = ours.collect();
    let theirs = (0..DRAWS).map(|seed| {
        let what = what.clone();
        let command = format!("draw {what} {seed}");
        let judge = move |written: Bytes| {
            let (message, left) = M::read(written.clone(), version)
                .unwrap_or_else(|error| panic!("{what} {seed}: {error}: {written:?}"));
            assert_eq!(left, 0, "{what} {seed}: {message:?}");
            assert_eq!(message.body(version), written, "{what} {seed}: {message:?}");
        };
        Task { command, judge: Box::new(judge) }
    });
    ours.into_iter().chain(theirs).collect()
}

/// Their answers, one to each command.
fn ask(jars: &str, commands: String) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka_codec/jvm/Messages.java");
    let mut java = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{jars}/*")])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = java.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(commands.as_bytes()));
    let output = java.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn we_and_kafka_read_what_the_other_writes() {
    let Ok(jars) = std::env::var("FLUMEN_KAFKA_CLIENTS") else {
        let why =
            "Kafka's message classes are not there: `tests/run --test kafka_codec` fetches them";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        return eprintln!("skipped: {why}");
    };
    let mut all = Vec::new();
    let mut compared: Vec<ApiKey> = Vec::new();
    macro_rules! compare {
        ($($request:ident $response:ident),* $(,)?) => {$(
            all.extend(tasks::<$request>("request"));
            all.extend(tasks::<$response>("response"));
            compared.push(<$request as flumen_actors::gateway::codec::Message>::API);
        )*};
    }
    compare! {
        ListOffsetsRequest ListOffsetsResponse,
        OffsetCommitRequest OffsetCommitResponse,
        OffsetFetchRequest OffsetFetchResponse,
        ApiVersionsRequest ApiVersionsResponse,
        DescribeLogDirsRequest DescribeLogDirsResponse,
        DeleteGroupsRequest DeleteGroupsResponse,
    }
    assert_eq!(compared, COVERED.map(|(api, _)| api), "each that the other codec lacks");
    let commands = all.iter().map(|task| format!("{}\n", task.command)).collect();
    let answers = ask(&jars, commands);
    assert_eq!(answers.len(), all.len());
    for (task, answer) in all.iter().zip(answers) {
        assert!(!answer.starts_with("error"), "{answer}\nto {}", task.command);
        (task.judge)(from_hex(&answer));
    }
}

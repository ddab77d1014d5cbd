//! `flumen serve`: what it says when it begins, when it cannot, and when it is stopped.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
};

use crate::program::{PATIENCE, Place, Running};

/// A node that listens where the system lets it, and the address that it says.
fn serve(place: &Place, data: &str) -> (Running, String) {
    let running = place.start(&format!("serve --listen 127.0.0.1:0 --data {data}"));
    running.has_said("an acknowledged record");
    let said = running.said();
    let address = said.split("listening on ").nth(1).and_then(|rest| rest.split(';').next());
    let address = address.unwrap_or_else(|| panic!("it names no address: {said}")).to_owned();
    (running, address)
}

/// A connection whose first request is answered.
fn answered(address: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // ApiVersions, version 0.
    client.write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff").unwrap();
    let mut head = [0; 8];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], [0, 0, 0, 7]);
    client
}

#[test]
fn it_says_where_it_listens_and_what_an_ack_promises_and_what_it_did_when_it_was_stopped() {
    let Some(place) = Place::new() else { return };
    let (running, address) = serve(&place, "data");
    for words in ["data in `data`", "an acknowledged record is on the disk"] {
        running.has_said(words);
    }
    let said = running.said();
    assert!(said.contains("io_uring") || said.contains("threads"), "no disk driver: {said}");
    // The answer shows that the connection is counted.
    let _client = answered(&address);
    let ended = running.terminate();
    assert!(ended.status.success(), "{}", ended.status);
    ended.tells(&["stopping: 1 connections", "stopped after", "1 connection let go", "0 topics"]);
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
}

/// Sends this and nothing more, and waits until it is let go; what it is called in the log.
fn strange(address: &str, sent: &[u8]) -> String {
    let mut peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = format!("peer={} ", peer.local_addr().unwrap());
    peer.write_all(sent).unwrap();
    // Where it was let go already, that may break: it is as good an end.
    let _ = peer.shutdown(Shutdown::Write);
    let _ = peer.read_to_end(&mut Vec::new());
    name
}

#[test]
fn who_speaks_something_else_is_let_go_with_one_line_that_says_what_was_seen() {
    let Some(place) = Place::new() else { return };
    // Where requests may be long, what others begin with spells a length.
    let long =
        " --set socket.request.max.bytes=2000000000 --set queued.max.request.bytes=4000000000";
    for (settings, of_garbage) in
        [("", "a request of 1751477356 bytes was announced"), (long, "the client is gone")]
    {
        let (node, address) = serve(&place, &format!("data{settings}"));
        for (sent, is_called, begins) in [
            (
                &b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                "an HTTP request",
                r#"begins with "GET /index.html HTTP/1.1"#,
            ),
            (
                b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
                "a TLS handshake",
                r#"begins with "\x16\x03\x01\x02\x00\x01"#,
            ),
            (b"hello? anybody?", of_garbage, r#"begins with "hello? anybody?""#),
            (b"\0\0\0\x10hello?", "the client is gone", r#"begins with "\x00\x00\x00\x10hello?""#),
            (b"\0\0\0\x10hello? anybody??", "there is no API 26725", r#"begins with "hello? a""#),
        ] {
            let name = strange(&address, sent);
            node.has_said(&name);
            let said = node.said();
            let lines: Vec<&str> = said.lines().filter(|line| line.contains(&name)).collect();
            assert_eq!(lines.len(), 1, "{said}");
            for words in ["WARN", "a connection was closed", is_called, begins] {
                assert!(lines[0].contains(words), "no `{words}` in: {}", lines[0]);
            }
        }
        let silent = strange(&address, b"");
        let said = node.terminate();
        assert!(said.status.success() && !said.err.contains(&silent), "{}", said.err);
    }
}

/// Host and port that who connects to `address` is told to connect to (Metadata, version 1).
fn told_at(address: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x08\xff\xff\0\0\0\0").unwrap();
    let mut bytes = |count: usize| {
        let mut bytes = vec![0; count];
        client.read_exact(&mut bytes).unwrap();
        bytes
    };
    // The frame's length and its number; then the brokers: one, and its number is 1.
    assert_eq!(bytes(16)[4..], [0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1]);
    let length = bytes(2)[1];
    let host = String::from_utf8(bytes(length.into())).unwrap();
    let port = i32::from_be_bytes(bytes(4).try_into().unwrap());
    format!("{host}:{port}")
}

#[test]
fn each_listener_tells_its_clients_the_address_that_it_is_reached_at() {
    let Some(place) = Place::new() else { return };
    let advertised = ["inside.example:19092", "outside.example:29092"];
    let listen = advertised.map(|at| format!("--listen 127.0.0.1:0 --advertise {at}")).join(" ");
    let node = place.start(&format!("serve {listen} --data data"));
    node.has_said("an acknowledged record");
    let said = node.said();
    let addresses = said.split("listening on ").nth(1).and_then(|rest| rest.split(';').next());
    let addresses: Vec<&str> = addresses.unwrap().split(", ").collect();
    assert_eq!(addresses.iter().map(|at| told_at(at)).collect::<Vec<_>>(), advertised);
    assert!(node.terminate().status.success());
}

#[test]
fn who_finds_no_file_left_waits_and_is_answered_when_others_have_gone() {
    let Some(place) = Place::new() else { return };
    let (running, address) = serve(&place, "data");
    running.limit_files(8);
    let crowd: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(&address).unwrap()).collect();
    running.has_said("cannot accept a connection");
    drop(crowd);
    let _client = answered(&address);
    assert!(running.terminate().status.success());
}

#[test]
fn what_keeps_it_from_beginning_is_said_in_a_sentence() {
    let Some(place) = Place::new() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let serve_at = |address: &str| format!("serve --listen {address} --data data");
    place.refuse(
        &serve_at(&address.to_string()),
        &[&address.to_string(), "another program listens there"],
    );
    for bad in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "192.0.2.1:9092"] {
        place.refuse(&serve_at(bad), &[bad, "HOST:PORT"]);
    }
    let two = "serve --advertise a:1 --advertise b:2 --data data";
    place.refuse(two, &["--advertise", "one for each `--listen`"]);
    place.refuse("serve --advertise nonsense --data data", &["--advertise nonsense", "HOST:PORT"]);
    assert!(!place.path("data").exists(), "nothing is made by a node that does not begin");
}

#[test]
fn a_second_node_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let Some(place) = Place::new() else { return };
    let (first, address) = serve(&place, "data");
    place.refuse("serve --listen 127.0.0.1:0 --data data", &["`data`", "another"]);
    TcpStream::connect(&address).unwrap();
    assert!(first.terminate().status.success());
}

#[test]
fn a_configuration_file_says_what_the_command_line_does_and_the_command_line_wins() {
    let Some(place) = Place::new() else { return };
    let file = r#"
listen = ["127.0.0.1:0", "localhost:0"]
advertise = "broker.example:9092"
data = ["data", "more"]
[set]
num.partitions = 3
retention.ms = 5000
flush.messages = 9223372036854775807
"#;
    std::fs::write(place.path("flumen.toml"), file).unwrap();
    let node = place.start("serve --config flumen.toml --set retention.ms=7000");
    node.has_said("an acknowledged record survives a crash of the process, not a power cut");
    let said = node.said();
    assert!(said.contains("data in `data`, `more`"), "{said}");
    let addresses = said.split("listening on ").nth(1).and_then(|rest| rest.split(';').next());
    assert_eq!(addresses.unwrap().split(", ").count(), 2, "{said}");
    let created = place.succeed("topics create t --json --data more");
    assert!(created.contains("created"), "either directory leads to the node: {created}");
    let settings = place.succeed("topics describe t --settings --data data");
    let value = |name: &str| {
        let line = settings.lines().find(|line| line.trim_start().starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned)
    };
    assert_eq!(value("retention.ms").as_deref(), Some("7000"), "{settings}");
    assert_eq!(value("flush.messages").as_deref(), Some("9223372036854775807"), "{settings}");
    assert_eq!(
        settings.lines().filter(|line| line.ends_with(" 0  online")).count(),
        3,
        "{settings}"
    );
    assert!(node.terminate().status.success());
    assert!(place.path("data/t-0").exists() != place.path("more/t-0").exists());
}

#[test]
fn directories_come_in_any_order_and_the_node_keeps_its_number() {
    let Some(place) = Place::new() else { return };
    let both = place.start("serve --listen 127.0.0.1:0 --node 7 --data one --data two");
    both.has_said("an acknowledged record");
    place.succeed("topics create t -p 3 --data one");
    place.feed("produce t --data two", "a\nb\n");
    assert!(both.terminate().status.success());
    // Nobody says the number, and the catalogue is not in the first.
    let again = place.start("serve --listen 127.0.0.1:0 --data two --data one");
    again.has_said("an acknowledged record");
    assert_eq!(place.succeed("consume t --data one").lines().count(), 2);
    assert!(again.terminate().status.success());
    let refused = place.refuse("serve --node 1 --data one --data two", &["node 7, not to node 1"]);
    assert!(!refused.is_empty());
}

#[test]
fn whoever_listens_on_all_addresses_is_told_what_clients_are_told() {
    let Some(place) = Place::new() else { return };
    let node = place.start("serve --listen 0.0.0.0:0 --data data");
    node.has_said("clients are told to connect to localhost:");
    node.has_said("`--advertise HOST:PORT`");
    assert!(node.terminate().status.success());
}

#[test]
fn a_signal_ends_what_is_fed_without_end_and_its_code_says_so() {
    let Some(place) = Place::new() else { return };
    let (node, address) = serve(&place, "data");
    let mut yes = std::process::Command::new("yes");
    let mut yes = yes.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let input = yes.stdout.take().unwrap().into();
    let producer = place.start_fed(&format!("produce t --bootstrap {address}"), input);
    let records = format!("topics describe t --json --bootstrap {address}");
    let begun = || place.run(&records).status.success();
    crate::program::wait_until("its first record", begun);
    let said = producer.interrupt();
    assert_eq!(said.status.code(), Some(130), "{}", said.err);
    said.tells(&["stopped: ", "went into `t`"]);
    yes.kill().unwrap();
    yes.wait().unwrap();
    assert!(node.terminate().status.success());
}

#[test]
fn a_bad_line_of_a_configuration_file_is_named() {
    let Some(place) = Place::new() else { return };
    let refuse = |text: &str, words: &[&str]| {
        std::fs::write(place.path("flumen.toml"), text).unwrap();
        place.refuse("serve --config flumen.toml --data data", words);
        assert!(!place.path("data").exists(), "nothing is made by a node that does not begin");
    };
    refuse("listen = \"127.0.0.1:0\"\nlissen = 1\n", &["`flumen.toml` line 2", "`lissen`"]);
    refuse("[set]\nnum.partitions = 0\n", &["line 2", "num.partitions=0", "at least 1"]);
    refuse("[set]\nno.such = 0\n", &["line 2", "no setting `no.such`", "--settings"]);
    place.refuse("serve --config nowhere.toml", &["nowhere.toml"]);
    place.refuse("serve", &["no data directory", "--data DIR", "configuration file"]);
    place.refuse("serve --data data --set x", &["--set x", "NAME=VALUE"]);
    let settings = place.succeed("serve --settings --set num.partitions=9");
    assert!(settings.contains("num.partitions") && settings.contains("  9  "), "{settings}");
}

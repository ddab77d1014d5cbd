//! The page of metrics: read as a scraper does, after work that is known.

#[path = "metrics/text.rs"]
mod text;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use self::text::{Kind, Page};
use crate::program::{Place, Running, wait_until};

/// A node that listens and shows its metrics: where it does each.
fn serve(place: &Place, more: &str) -> (Running, String, String) {
    let args = "serve --listen 127.0.0.1:0 --metrics 127.0.0.1:0 --data data";
    let node = place.start(&format!("{args}{more}"));
    node.has_said("an acknowledged record");
    let (address, page) = (node.word_after("listening on "), node.word_after("metrics at http://"));
    (node, address, page.trim_end_matches("/metrics").to_owned())
}

/// What stands at `path`: its status, its type and its body.
fn get(address: &str, request: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let (request, more) = request.split_once('\n').unwrap_or((request, ""));
    let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let typed = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    let status = head.lines().next().unwrap_or_default().to_owned();
    (status, typed.unwrap_or_default().to_owned(), body.to_owned())
}

fn scrape(address: &str) -> Page {
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, typed, body) = get(address, &format!("GET /metrics\nAccept: {open}\r\n"));
    assert_eq!((&*status, &*typed), ("HTTP/1.1 200 OK", open));
    // Who does not ask for it gets what all can read.
    let (_, typed, classic) = get(address, "GET /metrics\nAccept: */*\r\n");
    assert_eq!(typed, "text/plain; version=0.0.4; charset=utf-8");
    let mut counters = classic.lines().filter(|line| line.ends_with(" counter"));
    assert!(counters.all(|line| line.ends_with("_total counter")), "{classic}");
    Page::parse(&body).unwrap_or_else(|why| panic!("{why} in:\n{body}"))
}

/// Every family that there is, with its type.
const FAMILIES: [(&str, Kind); 32] = [
    ("flumen_actors", Kind::Gauge),
    ("flumen_answer_bytes", Kind::Counter),
    ("flumen_answer_credit_bytes", Kind::Gauge),
    ("flumen_answer_credit_bytes_max", Kind::Gauge),
    ("flumen_connections", Kind::Gauge),
    ("flumen_decoded_credit_bytes", Kind::Gauge),
    ("flumen_decoded_credit_bytes_max", Kind::Gauge),
    ("flumen_group_committed_offset", Kind::Gauge),
    ("flumen_group_lag_records", Kind::Gauge),
    ("flumen_mailbox_messages", Kind::Gauge),
    ("flumen_mailbox_messages_max", Kind::Gauge),
    ("flumen_partition_bytes", Kind::Gauge),
    ("flumen_partition_end_offset", Kind::Gauge),
    ("flumen_partition_first_offset", Kind::Gauge),
    ("flumen_partition_online", Kind::Gauge),
    ("flumen_read_ahead_credit_bytes", Kind::Gauge),
    ("flumen_read_ahead_credit_bytes_max", Kind::Gauge),
    ("flumen_request_bytes", Kind::Counter),
    ("flumen_request_credit_bytes", Kind::Gauge),
    ("flumen_request_credit_bytes_max", Kind::Gauge),
    ("flumen_request_time_seconds", Kind::Histogram),
    ("flumen_requests", Kind::Counter),
    ("flumen_session_credit_partitions", Kind::Gauge),
    ("flumen_session_credit_partitions_max", Kind::Gauge),
    ("flumen_stall_time_seconds", Kind::Histogram),
    ("flumen_sync_time_seconds", Kind::Histogram),
    ("flumen_topic_bytes_in", Kind::Counter),
    ("flumen_topic_bytes_out", Kind::Counter),
    ("flumen_topic_records_in", Kind::Counter),
    ("flumen_topic_records_out", Kind::Counter),
    ("flumen_waiting_credit_partitions", Kind::Gauge),
    ("flumen_waiting_credit_partitions_max", Kind::Gauge),
];

#[test]
fn a_page_is_there_before_anything_has_happened_and_nothing_else_is() {
    let Some(place) = Place::new() else { return };
    let (_node, _, page) = serve(&place, "");
    assert_eq!(scrape(&page).value("flumen_connections", &[]), 0.0);
    for (request, status) in
        [("GET /", "HTTP/1.1 404 Not Found"), ("POST /metrics", "HTTP/1.1 405 Method Not Allowed")]
    {
        assert_eq!(get(&page, request).0, status, "{request}");
    }
}

#[test]
fn known_work_is_counted_once_and_looking_counts_nothing() {
    let Some(place) = Place::new() else { return };
    let (_node, address, page) = serve(&place, " --set group.initial.rebalance.delay.ms=0");
    place.succeed(&format!("topics create t --partitions 2 -b {address}"));
    let lines: String = (0..1_000).map(|line| format!("line {line}\n")).collect();
    place.feed(&format!("produce t -b {address}"), &lines);
    assert_eq!(
        place.succeed(&format!("consume t --max 700 -g g -b {address}")).lines().count(),
        700
    );

    let first = scrape(&page);
    let families = first.families();
    let found: Vec<_> = families.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(found, FAMILIES);
    let topic = [("topic", "t")];
    assert_eq!(first.value("flumen_topic_records_in_total", &topic), 1_000.0);
    let bytes_in = first.value("flumen_topic_bytes_in_total", &topic);
    assert!(bytes_in > lines.len() as f64, "{bytes_in}");
    let records_out = first.value("flumen_topic_records_out_total", &topic);
    assert!((700.0..=1_000.0).contains(&records_out), "{records_out}");
    assert!(first.value("flumen_topic_bytes_out_total", &topic) <= bytes_in);
    assert_eq!(first.sum("flumen_partition_end_offset", &topic), 1_000.0);
    assert_eq!(first.sum("flumen_group_committed_offset", &[("group", "g")]), 700.0);
    let lag = first.sum("flumen_group_lag_records", &[("group", "g"), ("topic", "t")]);
    assert!(lag <= 300.0, "{lag}");
    for api in ["Produce", "Fetch", "CreateTopics"] {
        let api = [("api", api)];
        let requests = first.value("flumen_requests_total", &api);
        assert!(requests >= 1.0, "{api:?}");
        assert_eq!(first.value("flumen_request_time_seconds_count", &api), requests, "{api:?}");
        assert!(first.value("flumen_request_bytes_total", &api) > 0.0);
        assert!(first.value("flumen_answer_bytes_total", &api) > 0.0);
    }
    assert_eq!(first.value("flumen_requests_total", &[("api", "CreateTopics")]), 1.0);
    for kind in ["partition", "controller"] {
        let syncs = first.value("flumen_sync_time_seconds_count", &[("actor", kind)]);
        assert!(syncs >= 1.0, "{kind}: {syncs}");
    }
    assert_eq!(first.value("flumen_actors", &[("actor", "controller")]), 1.0);
    // Those of `t`, and those of the groups' topic.
    assert_eq!(first.value("flumen_actors", &[("actor", "partition")]), 52.0);
    assert_eq!(first.value("flumen_actors", &[("actor", "group_coordinator")]), 50.0);
    assert_eq!(first.value("flumen_connections", &[]), 0.0, "nobody is connected");

    let second = scrape(&page);
    for family in ["flumen_requests_total", "flumen_request_time_seconds_count"] {
        assert_eq!(first.all(family), second.all(family), "looking is no client's request");
    }
    assert_eq!(first.value("flumen_topic_records_out_total", &topic), records_out);

    place.feed(&format!("produce t -b {address}"), "one more\n");
    let third = scrape(&page);
    assert_eq!(third.value("flumen_topic_records_in_total", &topic), 1_001.0);
    for (before, after) in [(&first, &second), (&second, &third)] {
        for ((name, labels), value) in before.monotonic() {
            let later =
                after.value(&name, &labels.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>());
            assert!(later >= value, "{name}{labels:?} went down: {value}, then {later}");
        }
    }
}

#[test]
fn what_is_held_under_load_is_shown_beside_the_most_that_may_be() {
    let Some(place) = Place::new() else { return };
    let (_node, address, page) = serve(&place, " --set queued.max.request.bytes=400000000");
    place.feed(&format!("produce t -b {address}"), "a\nb\n");
    let most = |page: &Page, name: &str| page.value(&format!("flumen_{name}_max"), &[]);
    let idle = scrape(&page);
    for (name, whole) in [
        ("request_credit_bytes", 400_000_000.0),
        ("decoded_credit_bytes", 100_000_000.0),
        ("answer_credit_bytes", 268_435_456.0),
        ("session_credit_partitions", 500_000.0),
        ("waiting_credit_partitions", 500_000.0),
    ] {
        assert_eq!(idle.value(&format!("flumen_{name}"), &[]), 0.0, "{name}: nobody is there");
        assert_eq!(most(&idle, name), whole, "{name}");
    }
    assert_eq!(idle.sum("flumen_read_ahead_credit_bytes", &[]), 0.0);
    assert!(idle.sum("flumen_read_ahead_credit_bytes_max", &[]) > 0.0);

    // A request is held as long as it is, from its first bytes on; and a fetch waits.
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(&[&70_000_u32.to_be_bytes()[..], &[0; 100]].concat()).unwrap();
    let fetching = place.start(&format!("consume t --follow -b {address}"));
    let mut held = idle;
    wait_until("a request and a fetch that are held", || {
        held = scrape(&page);
        held.value("flumen_request_credit_bytes", &[]) >= 70_000.0
            && held.value("flumen_waiting_credit_partitions", &[]) == 1.0
    });
    drop((half, fetching));
    wait_until("all of it to be given back", || {
        let page = scrape(&page);
        ["request_credit_bytes", "waiting_credit_partitions", "session_credit_partitions"]
            .iter()
            .all(|name| page.value(&format!("flumen_{name}"), &[]) == 0.0)
    });

    let synced = [("actor", "partition")];
    assert!(held.value("flumen_sync_time_seconds_count", &synced) >= 1.0);
    assert!(held.value("flumen_sync_time_seconds_sum", &synced) > 0.0);
    let kinds: Vec<&str> =
        held.all("flumen_actors").into_iter().map(|(labels, _)| &*labels["actor"]).collect();
    for kind in ["connection", "controller", "partition"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    for kind in kinds {
        let waiting = held.value("flumen_mailbox_messages", &[("actor", kind)]);
        let most = held.value("flumen_mailbox_messages_max", &[("actor", kind)]);
        assert!(most <= waiting, "{kind}: {most} of {waiting}");
    }
}

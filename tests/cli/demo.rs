//! `flumen demo`: its last line is the account, and so is its code.

use serde_json::Value;

use crate::program::Place;

#[test]
fn the_demonstration_ends_with_an_account_that_comes_out_even() {
    let Some(place) = Place::new() else { return };
    let out = place.succeed("demo --json --seconds 8 --rate 500 --data demo");
    let account: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let written = account["written"].as_u64().unwrap();
    assert!(written > 1_000, "{account}");
    let killed: Vec<&str> =
        account["killed"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for victim in ["tail", "buffer", "publish", "partition", "coordinator"] {
        assert!(killed.iter().any(|name| name.contains(victim)), "no {victim} in {killed:?}");
    }
    let groups = account["groups"].as_object().unwrap();
    assert_eq!(groups.len(), 2, "{account}");
    for (name, group) in groups {
        assert_eq!(group["delivered"].as_u64(), Some(written), "{name}");
        assert_eq!(group["lost"].as_u64(), Some(0), "{name}");
        assert_eq!(group["doubled"].as_u64(), Some(0), "{name}");
        let latency = &account["latency_us"][name];
        for percentile in ["p50", "p99", "p99.9"] {
            assert!(latency[percentile].as_u64().is_some_and(|us| us > 0), "{name}: {latency}");
        }
    }
}

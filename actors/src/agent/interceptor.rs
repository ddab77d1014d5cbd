//! Interceptors: change events on their way from a source into its channels, or drop them.
//!
//! As in Flume they work on a whole batch, one after the other, and never add an event
//! (`org.apache.flume.interceptor.Interceptor`: the list that comes out must not be longer than the
//! one that went in).
//!
//! # Invariants
//! - ICP-1: no interceptor adds an event.

pub mod host;
pub mod static_header;
pub mod timestamp;

use std::fmt::Debug;

use crate::agent::event::Event;

/// Changes or drops events.
pub trait Interceptor: Debug + Send {
    /// What becomes of `events`, in the same order. `now_ms` is the time of day.
    fn intercept(&mut self, events: Vec<Event>, now_ms: i64) -> Vec<Event>;
}

/// Runs `events` through `chain`, the first interceptor first.
pub fn intercept(
    chain: &mut [Box<dyn Interceptor>],
    events: Vec<Event>,
    now_ms: i64,
) -> Vec<Event> {
    chain.iter_mut().fold(events, |events, interceptor| {
        let before = events.len();
        let events = interceptor.intercept(events, now_ms);
        assert!(events.len() <= before, "ICP-1: {interceptor:?} added events");
        events
    })
}

#[cfg(test)]
mod tests {
    use super::{host::Host, static_header::StaticHeader, timestamp::Timestamp, *};

    fn chain() -> Vec<Box<dyn Interceptor>> {
        vec![
            Box::new(Timestamp::default()),
            Box::new(Host::named("web-1")),
            Box::new(StaticHeader::new("env", "prod")),
        ]
    }

    #[test]
    fn a_chain_sets_each_of_its_headers() {
        let events = intercept(&mut chain(), vec![Event::new("x")], 1_700_000_000_000);
        let headers: Vec<_> =
            events[0].headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(headers, ["env=prod", "host=web-1", "timestamp=1700000000000"]);
    }

    #[test]
    fn what_is_there_is_replaced_by_timestamp_and_host_and_kept_by_static() {
        let mut event = Event::new("x");
        for name in ["timestamp", "host", "env"] {
            event.headers.insert(name, "old");
        }
        let events = intercept(&mut chain(), vec![event], 5);
        let value = |name| events[0].headers.get(name).unwrap().to_string();
        assert_eq!(
            (value("timestamp"), value("host"), value("env")),
            ("5".into(), "web-1".into(), "old".into())
        );
    }

    #[test]
    fn each_does_the_other_thing_when_it_is_told_to() {
        let mut chain: Vec<Box<dyn Interceptor>> = vec![
            Box::new(Timestamp::default().preserving(true).header("at")),
            Box::new(Host::named("web-1").preserving(true).header("node")),
            Box::new(StaticHeader::new("env", "prod").preserving(false)),
        ];
        let mut event = Event::new("x");
        for name in ["at", "node", "env"] {
            event.headers.insert(name, "old");
        }
        let events = intercept(&mut chain, vec![event, Event::new("y")], 5);
        let of = |n: usize, name| events[n].headers.get(name).unwrap().to_string();
        assert_eq!(
            (of(0, "at"), of(0, "node"), of(0, "env")),
            ("old".into(), "old".into(), "prod".into())
        );
        assert_eq!((of(1, "at"), of(1, "node")), ("5".into(), "web-1".into()));
    }
}

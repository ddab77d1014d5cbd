//! `logger`: each event as a line of the program's own log.

use bytes::Bytes;
use flumen_runtime::placement::Local;

use crate::agent::{
    channel::{SinkAttached, TakenEvent},
    sink::{DeliverError, Delivered, Delivery},
};

/// Logs events at level `info`.
#[derive(Clone, Copy, Debug)]
pub struct Logger {
    /// Most bytes of a body that are shown. Flume's `maxBytesToLog`, which is 16 there.
    pub bytes_max: usize,
}

impl Default for Logger {
    fn default() -> Self {
        Self { bytes_max: 256 }
    }
}

impl Logger {
    /// What is shown of an event: `{name=value} body`, what is no printable ASCII as escapes.
    fn line(&self, taken: &TakenEvent) -> String {
        let headers: Vec<_> =
            taken.event.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = &taken.event.body;
        let shown = &body[..body.len().min(self.bytes_max)];
        let rest = if shown.len() < body.len() { "…" } else { "" };
        format!("{{{}}} {}{rest}", headers.join(", "), shown.escape_ascii())
    }
}

impl Delivery for Logger {
    async fn resume(&mut self, _: &SinkAttached, _: &Local) -> Result<Option<Bytes>, DeliverError> {
        Ok(None)
    }

    async fn deliver(&mut self, events: Vec<TakenEvent>) -> Result<Delivered, DeliverError> {
        for taken in &events {
            tracing::info!(offset = taken.offset.0, "{}", self.line(taken));
        }
        Ok(Delivered::All(None))
    }
}

#[cfg(test)]
mod tests {
    use flumen_runtime::ids::Offset;

    use super::*;
    use crate::agent::event::Event;

    #[test]
    fn a_long_body_is_cut_and_what_cannot_be_printed_is_escaped() {
        let headers = [("b", "2"), ("a", "1")].into_iter().collect();
        let event = Event { headers, body: "x\n\x07yz".into() };
        let taken = TakenEvent { offset: Offset(0), put_ms: 0, event };
        assert_eq!(Logger { bytes_max: 4 }.line(&taken), r"{a=1, b=2} x\n\x07y…");
        assert_eq!(Logger::default().line(&taken), r"{a=1, b=2} x\n\x07yz");
    }
}

//! Times as people write them on the command line.

use flumen_runtime::clock::{Clock as _, SystemClock, UnixMillis};
use jiff::{Span, Timestamp, Zoned, civil::DateTime, tz::TimeZone};

/// The time that `text` says: `@MS`, RFC 3339, a local date with or without a time of day, or a span
/// before now such as `1h 30m ago`.
#[must_use]
pub fn parse(text: &str) -> Option<UnixMillis> {
    let now = Timestamp::from_millisecond(SystemClock.now_ms()).ok()?;
    at(text.trim(), &now.to_zoned(TimeZone::system()))
}

fn at(text: &str, now: &Zoned) -> Option<UnixMillis> {
    if let Some(millis) = text.strip_prefix('@') {
        return millis.parse().ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    // A year alone would be an offset, and a word of weekdays is no date.
    if let Ok(local) = text.parse::<DateTime>() {
        let zoned = local.to_zoned(now.time_zone().clone()).ok()?;
        return Some(zoned.timestamp().as_millisecond());
    }
    // Only what says that it is past: of a bare `1h` nobody can tell which way it points.
    let span: Span = text.ends_with("ago").then(|| text.parse().ok())??;
    Some(now.checked_add(span).ok()?.timestamp().as_millisecond())
}

/// `millis` as RFC 3339 in UTC; none where it is no time, as −1.
#[must_use]
pub fn rfc3339(millis: UnixMillis) -> Option<String> {
    let time = (millis >= 0).then(|| Timestamp::from_millisecond(millis).ok())??;
    Some(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zoned {
        "2026-11-25T11:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        let now = berlin();
        let ten = now.timestamp().as_millisecond();
        let hour = 3_600_000;
        for (text, wanted) in [
            ("@0", 0),
            ("@1700000000000", 1_700_000_000_000),
            ("2026-11-25T10:00:00Z", ten),
            ("2026-11-25T12:00:00+02:00", ten),
            ("2026-11-25T10:00:00.250Z", ten + 250),
            ("2026-11-25T11:00", ten),
            ("2026-11-25 11:00:00", ten),
            ("2026-11-25", ten - 11 * hour),
            ("1h ago", ten - hour),
            ("1h 30m ago", ten - hour - hour / 2),
            ("2 days ago", ten - 48 * hour),
        ] {
            assert_eq!(at(text, &now), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["lunch", "", "@", "@x", "42", "1h", "ago", "2026-13-01", "2026-11-25T25:00"] {
            assert_eq!(at(text, &berlin()), None, "{text}");
        }
    }

    #[test]
    fn times_are_told_in_utc_to_programs() {
        assert_eq!(rfc3339(1_700_000_000_250).as_deref(), Some("2023-11-14T22:13:20.25Z"));
        assert_eq!(rfc3339(-1), None);
    }
}

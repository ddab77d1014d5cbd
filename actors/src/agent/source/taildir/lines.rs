//! Cutting bytes into lines.
//!
//! A line ends with LF, or with CR LF; neither is part of it. What has no end yet is held back: it
//! may be half of something. A line longer than the most that is allowed is delivered in pieces of
//! just that many bytes, the last of which ends with the line (Flume's `LineDeserializer` does the
//! same at `maxLineLength`); the pieces do not depend on how the bytes came in.

use bytes::Bytes;

/// One line, or a piece of one that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says, without its end.
    pub body: Bytes,
    /// Where it begins, counted from the first byte given to [`cut`].
    pub start: usize,
    /// Where the next one begins.
    pub end: usize,
    /// Whether the line goes on in the next piece.
    pub is_piece: bool,
}

/// Most bytes that [`cut`] needs to see to bring out a line.
#[must_use]
pub fn needed(line_bytes_max: usize) -> usize {
    line_bytes_max + 2
}

/// Cuts up to `count_max` lines off the front of `bytes`. What is left after the last of them is
/// either no whole line, or was not asked for.
#[must_use]
pub fn cut(bytes: &Bytes, line_bytes_max: usize, count_max: usize) -> Vec<Line> {
    assert!(line_bytes_max > 0, "a line has room for at least one byte");
    let mut lines = Vec::new();
    let mut start = 0;
    while lines.len() < count_max {
        let rest = &bytes[start..];
        let seen = &rest[..rest.len().min(needed(line_bytes_max))];
        let line_feed = seen.iter().position(|byte| *byte == b'\n');
        let content = line_feed.map(|at| if at > 0 && seen[at - 1] == b'\r' { at - 1 } else { at });
        let (len, skip, is_piece) = match (content, line_feed) {
            (Some(content), Some(at)) if content <= line_bytes_max => (content, at + 1, false),
            (Some(_), _) => (line_bytes_max, line_bytes_max, true),
            (None, _) if seen.len() == needed(line_bytes_max) => {
                (line_bytes_max, line_bytes_max, true)
            }
            (None, _) => break,
        };
        let body = bytes.slice(start..start + len);
        lines.push(Line { body, start, end: start + skip, is_piece });
        start += skip;
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(text: &str, max: usize) -> Vec<String> {
        let lines = cut(&Bytes::copy_from_slice(text.as_bytes()), max, usize::MAX);
        lines.iter().map(|line| String::from_utf8(line.body.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_line_loses_its_end_and_one_without_an_end_is_held_back() {
        assert_eq!(bodies("a\nb\r\n\n\r\nrest", 100), ["a", "b", "", ""]);
        assert_eq!(bodies("a\rb\n", 100), ["a\rb"]);
        assert_eq!(bodies("rest\r", 100), [""; 0]);
    }

    #[test]
    fn a_line_of_just_the_most_bytes_is_whole_and_a_longer_one_comes_in_pieces() {
        assert_eq!(bodies("abc\nabc\r\n", 3), ["abc", "abc"]);
        assert_eq!(bodies("abcd\n", 3), ["abc", "d"]);
        assert_eq!(bodies("abcdef\n", 3), ["abc", "def"]);
        assert_eq!(bodies("abcdef", 3), ["abc"], "what follows may yet end");
    }

    #[test]
    fn no_more_lines_are_cut_than_were_asked_for() {
        let lines = cut(&Bytes::from_static(b"a\nb\nc\n"), 10, 2);
        assert_eq!(lines.last().map(|line| (line.start, line.end)), Some((2, 4)));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_came_in(
            text in "[ab\r\n]{0,60}", max in 1_usize..6, chunk in 1_usize..9
        ) {
            let whole = bodies(&text, max);
            let (mut pieces, mut at, mut seen) = (Vec::new(), 0, 0);
            while seen < text.len() {
                seen = (seen + chunk).min(text.len());
                let lines = cut(&Bytes::copy_from_slice(&text.as_bytes()[at..seen]), max, usize::MAX);
                at += lines.last().map_or(0, |line| line.end);
                pieces.extend(lines.iter().map(|line| String::from_utf8(line.body.to_vec()).unwrap()));
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}

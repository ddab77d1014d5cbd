//! Cutting the answers of a node into frames, as a client does, and knowing by its first bytes what is
//! no Kafka at all.
//!
//! A frame is a length of 32 bits and so many bytes. The length is a claim: it is held against a limit
//! before anything is reserved for it.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length that stands before a frame.
const PREFIX: usize = 4;
/// The shortest answer: a correlation id.
const SHORTEST: usize = 4;
/// Bytes of what came that are told.
const SEEN_BYTES: usize = 24;

/// What a stream has next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame, without its length.
    Frame(Bytes),
    /// Not yet a whole one.
    Wait {
        /// How many bytes the buffer must hold, those that are there included.
        total: usize,
    },
}

/// Why a stream is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame that is longer than frames may be.
    #[error("a frame of {length} bytes, and at most {most} are taken")]
    TooLong {
        /// What it announces.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// A frame that is too short for a header.
    #[error("a frame of {0} bytes, which holds no answer")]
    TooShort(i32),
}

/// A protocol that is no Kafka, known by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A request of HTTP.
    Http,
    /// TLS, on a listener without.
    Tls,
    /// Secure shell.
    Ssh,
    /// The PROXY protocol of a load balancer.
    Proxy,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Foreign::Http => "an HTTP request",
            Foreign::Tls => "a TLS handshake",
            Foreign::Ssh => "an SSH greeting",
            Foreign::Proxy => "a PROXY protocol header",
        })
    }
}

impl Foreign {
    /// What begins with these four bytes, read where a length should stand.
    pub(super) fn begins(first: [u8; PREFIX]) -> Option<Foreign> {
        match &first {
            b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"DELE" | b"CONN" | b"PATC"
            | b"TRAC" | b"PRI " => Some(Foreign::Http),
            // Record type 22 (handshake), version 3.0 to 3.4.
            [0x16, 0x03, 0..=4, _] => Some(Foreign::Tls),
            b"SSH-" => Some(Foreign::Ssh),
            b"PROX" | b"\r\n\r\n" => Some(Foreign::Proxy),
            _ => None,
        }
    }
}

/// Takes the next response's frame off the front of `buffer`, as a client does.
///
/// # Errors
/// [`FrameError`] where the stream is none of responses.
pub fn next_response(buffer: &mut BytesMut, most: usize) -> Result<Next, FrameError> {
    match buffer.first_chunk::<PREFIX>() {
        None => Ok(Next::Wait { total: PREFIX }),
        Some(first) => {
            let length = within(i32::from_be_bytes(*first), most)?;
            Ok(cut(buffer, length))
        }
    }
}

/// How a stream begins, to be told beside why it is given up: its first bytes as far as they can be
/// read.
#[must_use]
pub fn seen(buffer: &[u8]) -> String {
    let more = if buffer.len() > SEEN_BYTES { "…" } else { "" };
    format!("\"{}\"{more}", buffer[..buffer.len().min(SEEN_BYTES)].escape_ascii())
}

/// The same of a stream that came in pieces.
pub(super) fn seen_in(pieces: [&[u8]; 3]) -> String {
    let bytes = pieces.into_iter().flatten().copied();
    seen(&bytes.take(SEEN_BYTES + 1).collect::<Vec<_>>())
}

fn within(length: i32, most: usize) -> Result<usize, FrameError> {
    match usize::try_from(length) {
        Ok(length) if length > most => Err(FrameError::TooLong { length, most }),
        Ok(length) if length >= SHORTEST => Ok(length),
        _ => Err(FrameError::TooShort(length)),
    }
}

fn cut(buffer: &mut BytesMut, length: usize) -> Next {
    let total = PREFIX + length;
    if buffer.len() < total {
        return Next::Wait { total };
    }
    buffer.advance(PREFIX);
    Next::Frame(buffer.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100 << 20;

    fn next(bytes: &[u8]) -> Result<Next, FrameError> {
        next_response(&mut BytesMut::from(bytes), MOST)
    }

    #[test]
    fn frames_are_cut_one_after_the_other_and_what_is_missing_is_named() {
        let answer = b"\0\0\0\x06\0\0\0\x07\xff\xff";
        let mut buffer = BytesMut::new();
        for end in 0..answer.len() {
            let total = if end < PREFIX { PREFIX } else { answer.len() };
            assert_eq!(next(&answer[..end]).unwrap(), Next::Wait { total });
        }
        buffer.extend_from_slice(answer);
        buffer.extend_from_slice(answer);
        buffer.extend_from_slice(b"\0");
        for _ in 0..2 {
            let frame = next_response(&mut buffer, MOST).unwrap();
            assert_eq!(frame, Next::Frame(Bytes::from_static(&answer[PREFIX..])));
        }
        assert_eq!(&buffer[..], b"\0");
    }

    #[test]
    fn lengths_outside_the_limits_are_refused_before_the_rest_comes() {
        assert_eq!(next(b"\0\0\0\x03"), Err(FrameError::TooShort(3)));
        assert_eq!(next(b"\xff\xff\xff\xff"), Err(FrameError::TooShort(-1)));
        let length = MOST + 1;
        assert_eq!(
            next(&(length as u32).to_be_bytes()),
            Err(FrameError::TooLong { length, most: MOST })
        );
        let total = PREFIX + MOST;
        assert_eq!(next(&(MOST as u32).to_be_bytes()), Ok(Next::Wait { total }));
        assert_eq!(next(b"\0\0\0\x04\0\0\0\x07"), Ok(Next::Frame(b"\0\0\0\x07"[..].into())));
    }

    #[test]
    fn other_protocols_are_called_by_their_name() {
        for (bytes, name) in [
            (b"GET ", Foreign::Http),
            (b"PRI ", Foreign::Http),
            (b"\x16\x03\x01\x02", Foreign::Tls),
            (b"SSH-", Foreign::Ssh),
            (b"PROX", Foreign::Proxy),
            (b"\r\n\r\n", Foreign::Proxy),
        ] {
            assert_eq!(Foreign::begins(*bytes), Some(name));
        }
        assert_eq!(Foreign::begins(*b"\0\0\0\x2a"), None);
        assert_eq!(Foreign::Http.to_string(), "an HTTP request");
    }

    #[test]
    fn what_was_seen_can_be_told() {
        assert_eq!(seen(b"hello\n\xff"), r#""hello\n\xff""#);
        assert_eq!(seen(&[b'a'; 25]), format!("\"{}\"…", "a".repeat(24)));
        assert_eq!(seen(b""), r#""""#);
        assert_eq!(seen_in([b"he", b"", b"llo"]), r#""hello""#);
        let long = format!("\"aaaa{}\"…", "b".repeat(20));
        assert_eq!(seen_in([&[b'a'; 4], &[b'b'; 20], b"c"]), long);
    }
}

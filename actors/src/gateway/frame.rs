//! Cutting a stream of bytes into frames, and saying what else a stream may be.
//!
//! A frame is a length of 32 bits and so many bytes. The length is a claim: it is held against a limit
//! before anything is reserved for it, and what follows it must begin as a request does.

use bytes::{Buf, Bytes, BytesMut};

use super::api::ApiKey;

/// Bytes of the length that stands before a frame.
const PREFIX: usize = 4;
/// The shortest request: API, version, correlation id.
const SHORTEST: usize = 8;

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

/// Why a stream is given up. No answer can be given to any of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Somebody speaks something else.
    #[error("this is {0}, not Kafka's protocol")]
    Foreign(Foreign),
    /// A frame that is longer than frames may be.
    #[error("a frame of {length} bytes, and at most {most} are taken")]
    TooLong {
        /// What it announces.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// A frame that is too short for a header.
    #[error("a frame of {0} bytes, which holds no request")]
    TooShort(i32),
    /// A frame that asks for what does not exist.
    #[error("a request to API {0}, which there is not")]
    UnknownApi(i16),
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

/// Takes the next request's frame off the front of `buffer`; a frame holds at most `most` bytes.
///
/// # Errors
/// [`FrameError`] where the stream is none of requests: it is to be closed.
pub fn next_request(buffer: &mut BytesMut, most: usize) -> Result<Next, FrameError> {
    let Some(first) = buffer.first_chunk::<PREFIX>() else {
        return Ok(Next::Wait { total: PREFIX });
    };
    let length = check_length(*first, most)?;
    if let Some(key) = buffer.get(PREFIX..).and_then(|rest| rest.first_chunk()) {
        let key = i16::from_be_bytes(*key);
        ApiKey::from_number(key).ok_or(FrameError::UnknownApi(key))?;
    }
    Ok(cut(buffer, length))
}

/// Takes the next response's frame off the front of `buffer`, as a client does.
///
/// # Errors
/// [`FrameError`] where the stream is none of responses.
pub fn next_response(buffer: &mut BytesMut, most: usize) -> Result<Next, FrameError> {
    match buffer.first_chunk::<PREFIX>() {
        None => Ok(Next::Wait { total: PREFIX }),
        Some(first) => {
            let length = i32::from_be_bytes(*first);
            let length = within(length, PREFIX, most)?;
            Ok(cut(buffer, length))
        }
    }
}

/// How a stream begins, to be told beside a [`FrameError`]: its first bytes as far as they can be read.
#[must_use]
pub fn seen(buffer: &[u8]) -> String {
    const MOST: usize = 24;
    let more = if buffer.len() > MOST { "…" } else { "" };
    format!("\"{}\"{more}", buffer[..buffer.len().min(MOST)].escape_ascii())
}

fn check_length(first: [u8; PREFIX], most: usize) -> Result<usize, FrameError> {
    let length = within(i32::from_be_bytes(first), SHORTEST, most);
    length.map_err(|error| Foreign::begins(first).map_or(error, FrameError::Foreign))
}

fn within(length: i32, least: usize, most: usize) -> Result<usize, FrameError> {
    match usize::try_from(length) {
        Ok(length) if length > most => Err(FrameError::TooLong { length, most }),
        Ok(length) if length >= least => Ok(length),
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
        next_request(&mut BytesMut::from(bytes), MOST)
    }

    #[test]
    fn frames_are_cut_one_after_the_other_and_what_is_missing_is_named() {
        let request = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff";
        let mut buffer = BytesMut::new();
        for end in 0..request.len() {
            let wait = next(&request[..end]).unwrap();
            let total = if end < PREFIX { PREFIX } else { request.len() };
            assert_eq!(wait, Next::Wait { total });
        }
        buffer.extend_from_slice(request);
        buffer.extend_from_slice(request);
        buffer.extend_from_slice(b"\0");
        for _ in 0..2 {
            let frame = next_request(&mut buffer, MOST).unwrap();
            assert_eq!(frame, Next::Frame(Bytes::from_static(&request[PREFIX..])));
        }
        assert_eq!(&buffer[..], b"\0");
    }

    #[test]
    fn lengths_outside_the_limits_are_refused_before_the_rest_comes() {
        assert_eq!(next(b"\0\0\0\x07"), Err(FrameError::TooShort(7)));
        assert_eq!(next(b"\xff\xff\xff\xff"), Err(FrameError::TooShort(-1)));
        let length = MOST + 1;
        assert_eq!(
            next(&(length as u32).to_be_bytes()),
            Err(FrameError::TooLong { length, most: MOST })
        );
        let total = PREFIX + MOST;
        assert_eq!(next(&(MOST as u32).to_be_bytes()), Ok(Next::Wait { total }));
    }

    #[test]
    fn a_request_to_nobody_is_refused_before_the_rest_comes() {
        assert_eq!(next(b"\0\0\x20\0\x7f\x7f"), Err(FrameError::UnknownApi(0x7f7f)));
    }

    #[test]
    fn other_protocols_are_called_by_their_name() {
        for (bytes, name) in [
            (&b"GET / HTTP/1.1\r\n"[..], Foreign::Http),
            (b"PRI * HTTP/2.0\r\n", Foreign::Http),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", Foreign::Tls),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Foreign::Ssh),
            (b"PROXY TCP4 192.0.2.1 ", Foreign::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n", Foreign::Proxy),
        ] {
            assert_eq!(next(bytes), Err(FrameError::Foreign(name)));
        }
        let error = next(b"POST /topics HTTP/1.1\r\n").unwrap_err();
        assert_eq!(error.to_string(), "this is an HTTP request, not Kafka's protocol");
    }

    #[test]
    fn what_was_seen_can_be_told() {
        assert_eq!(seen(b"hello\n\xff"), r#""hello\n\xff""#);
        assert_eq!(seen(&[b'a'; 25]), format!("\"{}\"…", "a".repeat(24)));
        assert_eq!(seen(b""), r#""""#);
    }

    #[test]
    fn a_response_may_be_as_short_as_its_header() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x04\0\0\0\x07"[..]);
        let frame = next_response(&mut buffer, MOST).unwrap();
        assert_eq!(frame, Next::Frame(Bytes::from_static(b"\0\0\0\x07")));
    }
}

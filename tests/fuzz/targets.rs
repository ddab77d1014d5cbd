//! What is fuzzed: each target takes any bytes, must not panic on them, must hold what it says of
//! itself, and may take only so much memory as its bytes are worth.

use std::fmt::Debug;

use bytes::{Buf, Bytes};
use flumen_actors::{
    broker::group_coordinator::{
        protocol::{Assignment, Subscription},
        records,
    },
    gateway::{
        Intake, Taken,
        codec::{Message, Output, RequestFrame, RequestHeader, decode::MEMORY_MAX},
    },
};
use flumen_runtime::{
    batch::{self, BatchHeader, control::Control},
    credit::Credit,
};

use crate::counting::asked;

/// A target: its name, which is that of its folder of inputs, and what it does with one.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
}

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "frames", run: frames },
    Target { name: "requests", run: requests },
    Target { name: "responses", run: responses },
    Target { name: "batches", run: batches },
    Target { name: "compressed", run: compressed },
    Target { name: "group_records", run: group_records },
];

/// Memory that is taken whatever comes: for an error, and for what is kept of it.
const CONSTANT: usize = 1024;

/// A stream of bytes, cut into pieces as long as its first byte says. What is reserved was announced,
/// was within the limit, and had its permit.
fn frames(input: &[u8]) {
    const LIMIT: usize = 1 << 16;
    let Some((piece, stream)) = input.split_first() else { return };
    let credit = Credit::new(2, LIMIT);
    let mut intake = Intake::new(LIMIT);
    let mut rebuilt = Vec::new();
    let mut refused = false;
    for mut part in stream.chunks(usize::from(*piece).max(1)) {
        loop {
            let (taken, taken_bytes) = asked(|| intake.take(&mut part));
            assert_eq!(taken_bytes, 0, "memory was taken before its permit");
            match taken {
                Err(error) => {
                    assert!(!(0..=LIMIT as i32).contains(&i32::from_be_bytes(error.head)));
                    refused = true;
                    break;
                }
                Ok(Taken::More) => break assert!(part.is_empty(), "bytes were left"),
                Ok(Taken::Begins(length)) => {
                    let permit = credit.try_acquire(1, length).expect("one at a time");
                    let ((), reserved) = asked(|| intake.admit(length, permit));
                    assert!(reserved <= length, "{reserved} were reserved for {length}");
                }
                Ok(Taken::Frame(frame)) => {
                    rebuilt.extend_from_slice(&(frame.bytes.len() as u32).to_be_bytes());
                    rebuilt.extend_from_slice(&frame.bytes);
                }
            }
        }
        if refused {
            break;
        }
    }
    assert!(stream.starts_with(&rebuilt), "the frames are not what came");
}

/// A message that was read can be written, and what was written is read as the same.
fn again<M: Message + PartialEq + Debug>(
    message: &M,
    write: impl Fn(&M, &mut Output),
    read: impl Fn(Bytes) -> M,
) {
    let mut output = Output::new();
    write(message, &mut output);
    let mut frame = output.take_bytes();
    let length = frame.get_i32();
    assert_eq!(usize::try_from(length), Ok(frame.len()), "the length of a frame is that of it");
    assert_eq!(&read(frame), message);
}

fn affordable(length: usize, asked: usize) {
    /// A string of no letters is one byte on the wire, and a slice of 32 in memory.
    const MULTIPLE: usize = 32;
    let most = (MULTIPLE * length).min(MEMORY_MAX) + CONSTANT;
    assert!(asked <= most, "{asked} bytes of memory for a frame of {length}");
}

/// A frame that may hold a request.
fn requests(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let (frame, header_asked) = asked(|| RequestFrame::parse(bytes));
    affordable(input.len(), header_asked);
    let Ok(frame) = frame else { return };
    let header = &frame.header;
    macro_rules! read {
        ($($module:ident $request:ident $response:ident),* $(,)?) => {$({
            use flumen_actors::gateway::messages::$module::$request as Request;
            if header.api == Request::API {
                let (request, body_asked) = asked(|| frame.decode::<Request>());
                affordable(input.len(), body_asked);
                let Ok(request) = request else { return };
                again(
                    &request,
                    |request, output| header.request(request, output).expect("it was read"),
                    |frame| {
                        let frame = RequestFrame::parse(frame).expect("it was written");
                        assert_eq!(&frame.header, header);
                        frame.decode().expect("it was written")
                    },
                );
            }
        })*};
    }
    every_message!(read);
}

/// A frame that may hold the answer to a request, of which the first two bytes say what it asked.
fn responses(input: &[u8]) {
    let [key, version, answer @ ..] = input else { return };
    let bytes = Bytes::copy_from_slice(answer);
    macro_rules! read {
        ($($module:ident $request:ident $response:ident),* $(,)?) => {$({
            use flumen_actors::gateway::messages::$module::{
                $request as Request, $response as Response,
            };
            if Request::API.number() == i16::from(*key) {
                let header = RequestHeader::new::<Request>(i16::from(*version), 7, None);
                let Ok(header) = header else { return };
                let frame = bytes.clone();
                let (response, taken) = asked(|| header.response::<Response>(frame));
                // An answer in version 0 may be tried a second time.
                affordable(2 * answer.len(), taken);
                let Ok((_, response)) = response else { return };
                again(
                    &response,
                    |response, output| header.respond(response, output).expect("it was read"),
                    |frame| header.response(frame).expect("it was written").1,
                );
            }
        })*};
    }
    every_message!(read);
}

/// Batches back to back, as a producer sends them and a log holds them.
fn batches(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let ((), taken) = asked(|| {
        for parsed in batch::split(&bytes) {
            let Ok((header, batch)) = parsed else { return };
            let batch = bytes.slice_ref(batch);
            let _ = batch::check(&batch, &header);
            if header.attributes.is_control() {
                let _ = Control::parse(&batch, &header);
            }
            read_records(&batch, &header);
        }
    });
    assert!(taken <= CONSTANT * (1 + input.len() / 61), "{taken} bytes for {}", input.len());
}

fn read_records(batch: &Bytes, header: &BatchHeader) {
    let Ok(records) = batch::records(batch, header) else { return };
    let mut count = 0;
    for record in records {
        let Ok(record) = record else { return };
        assert!((header.base_offset..=header.last_offset()).contains(&record.offset));
        // Each is read on its way.
        record.headers().for_each(drop);
        count += 1;
    }
    assert_eq!(count, header.record_count, "a batch has as many records as it says");
}

/// A block of each codec, which the first byte names: what it expands to, or claims to, takes no more
/// memory than the limit, and what a codec needs to begin with.
fn compressed(input: &[u8]) {
    const LIMIT: usize = 64 << 10;
    // LZ4's largest blocks, and gzip's window.
    const WORKING: usize = 32 << 20;
    let Some((codec, block)) = input.split_first() else { return };
    let mut bytes = vec![0; batch::HEADER_BYTES];
    let length = i32::try_from(batch::HEADER_BYTES - batch::PREFIX_BYTES + block.len());
    bytes[8..12].copy_from_slice(&length.expect("inputs are short").to_be_bytes());
    (bytes[16], bytes[22]) = (2, codec % 6);
    bytes[23..27].copy_from_slice(&1_000_i32.to_be_bytes());
    bytes[57..61].copy_from_slice(&1_001_i32.to_be_bytes());
    bytes.extend_from_slice(block);
    let batch = Bytes::from(bytes);
    let header = BatchHeader::parse(&batch).expect("it is one");
    let (records, taken) = asked(|| batch::expand(&batch, &header, LIMIT));
    assert!(taken <= WORKING + 4 * LIMIT, "{taken} bytes for {}", input.len());
    // Whatever it expands to, reading it ends.
    records.into_iter().flatten().take_while(Result::is_ok).for_each(drop);
}

/// What stands in `__consumer_offsets`, and what members of a group tell each other: the first byte
/// says how long the key is.
fn group_records(input: &[u8]) {
    let Some((length, rest)) = input.split_first() else { return };
    let (key, value) = rest.split_at(rest.len().min(usize::from(*length)));
    if let Ok(Some(record)) = records::decode(key, Some(value)) {
        let (key, value) = record.encode();
        assert_eq!(records::decode(&key, value.as_deref()), Ok(Some(record)));
    }
    let _ = records::decode(key, None);
    if let Ok(subscription) = Subscription::decode(rest) {
        assert_eq!(Subscription::decode(&subscription.encode()), Ok(subscription));
    }
    if let Ok(assignment) = Assignment::decode(rest) {
        assert_eq!(Assignment::decode(&assignment.encode()), Ok(assignment));
    }
}

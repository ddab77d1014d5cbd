//! Bytes that no client sends: they are refused, without a panic, and take little memory.

use bytes::{BufMut, Bytes, BytesMut};
use flumen_actors::gateway::codec::decode::MEMORY_MAX;
use flumen_runtime::rng::Rng;

use crate::{Tested, counting::asked};

/// Memory that a body may take, a byte of it: a string of no letters is one byte on the wire and a
/// slice of 32 in memory. No structure has more for its bytes.
const MULTIPLE: usize = 32;
/// And beyond it, for the error and what is kept whatever comes.
const CONSTANT: usize = 512;

fn read<M: Tested>(body: &Bytes, version: i16) -> bool {
    let body = body.clone();
    let length = body.len();
    let (result, asked) = asked(|| M::read(body, version));
    let most = (MULTIPLE * length).min(MEMORY_MAX) + CONSTANT;
    assert!(asked <= most, "{} version {version}: {asked} for {length} bytes", M::API);
    if let Ok((message, _)) = &result {
        assert!(!format!("{message:?}").is_empty());
    }
    result.is_ok()
}

/// A body that ends too early is refused wherever it ends.
fn truncated<M: Tested>(rng: &mut Rng) {
    for version in M::versions() {
        let bodies = (0..6).map(|_| M::sample(rng, M::version(version)).body(version));
        for body in bodies.filter(|body| body.len() < 2_000) {
            for end in 0..body.len() {
                assert!(!read::<M>(&body.slice(..end), version), "{} {version}: {end}", M::API);
            }
        }
    }
}

/// A body with some of its bytes changed, and one of random bytes.
fn changed<M: Tested>(rng: &mut Rng) {
    for version in M::versions() {
        for _ in 0..100 {
            let mut body = BytesMut::from(M::sample(rng, M::version(version)).body(version));
            let length = body.len() as u64;
            for _ in 0..=rng.below(3) {
                if let Some(byte) = body.get_mut(rng.below(length) as usize) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, rng.next_u64() as u8][rng.below(6) as usize];
                }
            }
            read::<M>(&body.freeze(), version);
            let random: Bytes = (0..rng.below(64)).map(|_| rng.next_u64() as u8).collect();
            read::<M>(&random, version);
        }
    }
}

/// The longest length that can be, at every place where a length could stand, and as many elements as
/// the bytes behind it could be.
fn inflated<M: Tested>(rng: &mut Rng) {
    for version in M::versions() {
        let body = M::sample(rng, M::version(version)).body(version);
        for at in 0..body.len().min(200) {
            for (filler, length) in [(0, 2000), (1, 2000), (2, 500), (0xff, 100)] {
                for announced in [u32::MAX >> 1, 2000, 700, 400] {
                    for compact in [false, true] {
                        let mut bomb = BytesMut::from(&body[..at]);
                        put_length(&mut bomb, announced, compact);
                        bomb.put_bytes(filler, length);
                        read::<M>(&bomb.freeze(), version);
                    }
                }
            }
        }
    }
}

fn put_length(bytes: &mut BytesMut, length: u32, compact: bool) {
    if !compact {
        return bytes.put_u32(length);
    }
    let mut rest = length;
    while rest >= 0x80 {
        bytes.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.put_u8(rest as u8);
}

macro_rules! hostile_tests {
    ($($module:ident $request:ident $response:ident),* $(,)?) => {
        $(mod $module {
            use flumen_actors::gateway::messages::$module::{$request, $response};
            use flumen_runtime::rng::Rng;

            #[test]
            fn what_is_cut_short_is_refused() {
                let rng = &mut Rng::seeded(2).split(stringify!($module));
                super::truncated::<$request>(rng);
                super::truncated::<$response>(rng);
            }

            #[test]
            fn what_is_changed_does_no_harm() {
                let rng = &mut Rng::seeded(3).split(stringify!($module));
                super::changed::<$request>(rng);
                super::changed::<$response>(rng);
            }

            #[test]
            fn lengths_are_not_believed() {
                let rng = &mut Rng::seeded(4).split(stringify!($module));
                super::inflated::<$request>(rng);
                super::inflated::<$response>(rng);
            }
        })*
    };
}

every_message!(hostile_tests);

/// The first is a request of 7 bytes that asks for 64 GiB, the second one that has what it announces.
#[test]
fn an_array_is_reserved_only_for_elements_that_can_be_there() {
    use flumen_actors::gateway::messages::{
        list_groups::ListGroupsRequest, metadata::MetadataRequest,
    };
    let short = Bytes::from_static(b"\x7f\xff\xff\xff\0\0\0");
    let (result, few) = asked(|| MetadataRequest::read(short, 1));
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Metadata version 1: MetadataRequest.topics at byte 4: 2147483647 elements are announced, \
         and the 3 bytes that remain cannot hold them"
    );
    assert!(few <= CONSTANT, "{few}");
    let mut full = BytesMut::new();
    put_length(&mut full, 1_000_001, true);
    full.put_bytes(1, 1_000_000);
    full.put_bytes(0, 1);
    let (result, many) = asked(|| ListGroupsRequest::read(full.clone().freeze(), 4));
    let (request, left) = result.unwrap();
    assert_eq!((request.states_filter.len(), left), (1_000_000, 0));
    assert!(many <= MEMORY_MAX, "{many}");
    full.clear();
    put_length(&mut full, 2_000_001, true);
    full.put_bytes(1, 2_000_001);
    let (result, few) = asked(|| ListGroupsRequest::read(full.freeze(), 4));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("more memory than is left to this message"), "{error}");
    assert!(few <= CONSTANT, "{few}");
}

//! What fuzzing begins with beside the inputs that are kept: drawn messages of every API in every
//! version, so that none waits until chance has spelled it.

use bytes::Bytes;
use flumen_actors::gateway::codec::{Message, Output, Request, RequestHeader, sample::Sample};
use flumen_runtime::rng::Rng;

/// The targets that there are seeds for.
pub(crate) const DRAWN: [&str; 2] = ["requests", "responses"];

/// Messages of each version.
const DRAWS: u64 = 4;
/// The longest input that the fuzzer takes.
const INPUT_BYTES_MAX: usize = 2048;

/// An input, behind the key and the version of its API.
type Seed = ((i16, i16), Vec<u8>);

/// Those of a target.
pub(crate) fn drawn(target: &str) -> Vec<Seed> {
    let mut seeds = Vec::new();
    macro_rules! draw {
        ($($module:ident $request:ident $response:ident),* $(,)?) => {$({
            use flumen_actors::gateway::messages::$module::$request;
            draw_api::<$request>(target, &mut seeds);
        })*};
    }
    every_message!(draw);
    seeds
}

fn draw_api<R: Request + Sample>(target: &str, seeds: &mut Vec<Seed>)
where
    R::Response: Sample,
{
    let known = R::API.versions().expect("we speak it");
    for number in known.first..=known.last {
        let header = RequestHeader::new::<R>(number, 7, None).expect("it is a version of it");
        let mut rng = Rng::seeded(number as u64).split(target).split(&R::API.to_string());
        let mut short = 0;
        while short < DRAWS {
            let input = match target {
                "requests" => {
                    let request = R::sample(&mut rng, header.version);
                    frame(|output| header.request(&request, output).expect("it was drawn for it"))
                }
                _ => {
                    let response = R::Response::sample(&mut rng, header.version);
                    let answer = frame(|output| respond(&header, &response, output));
                    [&[R::API.number() as u8, number as u8], &answer[..]].concat().into()
                }
            };
            if input.len() <= INPUT_BYTES_MAX {
                short += 1;
                seeds.push(((R::API.number(), number), input.into()));
            }
        }
    }
}

fn respond<M: Message>(header: &RequestHeader, response: &M, output: &mut Output) {
    header.respond(response, output).expect("it was drawn for it");
}

/// What is written, without its length.
fn frame(write: impl FnOnce(&mut Output)) -> Bytes {
    let mut output = Output::new();
    write(&mut output);
    output.take_bytes().slice(4..)
}

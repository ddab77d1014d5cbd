//! An actor panics, then blocks its thread: it is made anew each time, and answers what is queued.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use flumen_runtime::{
    disk::{Engine, RealDisks},
    mailbox::Drain,
    placement::{Services, ThreadOptions, ThreadPlacement},
    supervision::{ChildSpec, SupervisorSpec},
};

struct Adder(u64);
impl Actor for Adder {
    type Context = Context<Self>;
}

#[derive(Debug, Message)]
#[rtype(result = "u64")]
enum Ask {
    Add(u64),
    Panic,
    Block,
}

impl Handler<Ask> for Adder {
    type Result = u64;
    #[expect(clippy::disallowed_methods, reason = "blocking the thread is the failure to be shown")]
    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> u64 {
        match ask {
            Ask::Add(amount) => self.0 += amount,
            Ask::Panic => panic!("this life is over"),
            Ask::Block => std::thread::sleep(Duration::from_secs(2)),
        }
        self.0
    }
}

impl Handler<Drain> for Adder {
    type Result = ();
    fn handle(&mut self, _: Drain, _: &mut Self::Context) {}
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    actix_rt::System::new().block_on(async {
        let services = Services::of_system(Arc::new(RealDisks::choose(Engine::Auto)?));
        let wedged_after = Duration::from_millis(300);
        let options = ThreadOptions { wedged_after, ..ThreadOptions::default() };
        let placement = ThreadPlacement::start(options, services)?;
        let (child, adder) = ChildSpec::actor("adder", |_| Ok(Adder(0)));
        let root = SupervisorSpec::new("root").child(child).start(placement.clone());
        for ask in [Ask::Add(7), Ask::Panic, Ask::Block] {
            let (asked, queued) = (adder.send(ask), adder.send(Ask::Add(1)));
            println!("asked: {:?}; queued behind it: {:?}", asked.await, queued.await);
        }
        root.stop().await;
        Ok(())
    })
}

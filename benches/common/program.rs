//! Runs a part of a bench on a chosen arbiter: on that of an actor, no message between the two crosses
//! cores.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};

use actix::{Actor, Context, Handler};
use flumen_runtime::{
    mailbox::Drain,
    placement::Place,
    supervision::{ChildSpec, Restart, SupervisorRef},
};
use futures::{FutureExt as _, future::LocalBoxFuture};
use tokio::sync::oneshot;

/// An actor that does nothing but to stand on its arbiter.
struct Program;

impl Actor for Program {
    type Context = Context<Self>;
}

impl Handler<Drain> for Program {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {}
}

type Job = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// Runs `program` on the arbiter of the actor called `beside`, and returns what it comes to.
pub(crate) async fn run_beside<T, F>(
    supervisor: &SupervisorRef,
    beside: &str,
    program: impl FnOnce() -> F + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    run_at(supervisor, Place::With(beside.into()), program).await
}

/// Runs `program` on the arbiter that `place` says, and returns what it comes to.
pub(crate) async fn run_at<T, F>(
    supervisor: &SupervisorRef,
    place: Place,
    program: impl FnOnce() -> F + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (done, came) = oneshot::channel();
    let run = program;
    let job: Job = Box::new(move || {
        let program = run();
        async move { drop(done.send(program.await)) }.boxed_local()
    });
    let job = Mutex::new(Some(job));
    let (child, _) = ChildSpec::actor(format!("bench at {place:?}"), move |_| {
        if let Some(job) = job.lock().unwrap_or_else(PoisonError::into_inner).take() {
            actix_rt::spawn(job());
        }
        Ok(Program)
    });
    let child = child.restart(Restart::Temporary).place(place);
    let name = child.name().clone();
    supervisor.start_child(child).await.expect("a program starts");
    let came = came.await.expect("the program does not panic");
    supervisor.stop_child(&name).await.expect("it stands until it is stopped");
    came
}

//! Who may name what: the architecture's invariants and the nevers of the design.

use super::source::{Source, phrases, words};

/// Complaints about each word of `banned` in the code of `source`.
fn banned(source: &Source, banned: &[&str], why: &str) -> Vec<String> {
    let found = words(&source.code).filter(|(_, word)| banned.contains(word));
    found.map(|(at, word)| source.complain(at, &format!("`{word}`: {why}"))).collect()
}

fn in_crates(source: &Source) -> bool {
    ["runtime/", "actors/", "pipelines/"].iter().any(|folder| source.path.starts_with(folder))
}

/// Whether the file is `module`.rs or lies below it.
fn belongs_to(source: &Source, module: &str) -> bool {
    source.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn belongs_to_any(source: &Source, modules: &[&str]) -> bool {
    modules.iter().any(|module| belongs_to(source, module))
}

/// The parts of a name: `TopicLog` and `topic_log` are topic and log.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    parts
}

/// ARCH-1: no type, trait or module of the runtime is named after what flumen is for.
pub(super) fn domain_names_in_runtime(source: &Source) -> Vec<String> {
    const DOMAIN: [&str; 10] = [
        "topic",
        "partition",
        "consumer",
        "producer",
        "group",
        "event",
        "source",
        "sink",
        "channel",
        "broker",
    ];
    if !source.path.starts_with("runtime/src/") {
        return Vec::new();
    }
    let keywords = ["struct", "enum", "trait", "type", "mod", "union"];
    let named = words(&source.code).zip(words(&source.code).skip(1));
    let named = named.filter(|((_, keyword), _)| keywords.contains(keyword)).map(|(_, name)| name);
    let bad = named.filter(|(_, name)| {
        parts(name).iter().any(|part| DOMAIN.contains(&part.trim_end_matches('s')))
    });
    bad.map(|(at, name)| source.complain(at, &format!("`{name}` is a word of the domain (ARCH-1)")))
        .collect()
}

/// ARCH-2: cores and codecs know no runtime, file, clock or random.
pub(super) fn impure_cores(source: &Source) -> Vec<String> {
    let pure = ["runtime/src/codec", "runtime/src/ids", "runtime/src/batch"];
    let is_core = source.path.ends_with("/state.rs") || source.path.contains("/state/");
    if !is_core && !belongs_to_any(source, &pure) {
        return Vec::new();
    }
    let impure = [
        "actix",
        "actix_rt",
        "tokio",
        "async",
        "await",
        "fs",
        "net",
        "thread",
        "Instant",
        "SystemTime",
        "SystemClock",
        "from_system",
        "rand",
        "RandomState",
    ];
    banned(source, &impure, "a core is pure (ARCH-2)")
}

/// ARCH-3: `unsafe` only in the driver of the ring. (Tests may: to cut the power, to forbid rings.)
pub(super) fn unsafe_code(source: &Source) -> Vec<String> {
    if source.path == "runtime/src/disk/uring.rs" {
        return Vec::new();
    }
    banned(source, &["unsafe"], "only the ring's driver is (ARCH-3)")
}

/// ARCH-4: two crates stand behind one module each.
pub(super) fn fenced_crates(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, home) in [("bincode", "runtime/src/codec"), ("dashmap", "runtime/src/registry")] {
        if !belongs_to(source, home) {
            complaints.extend(banned(source, &[name], &format!("only in {home}.rs (ARCH-4)")));
        }
    }
    complaints
}

/// ARCH-5: only launch code makes an arbiter or a thread, or asks for the current system.
pub(super) fn arbiters(source: &Source) -> Vec<String> {
    if !in_crates(source) {
        return Vec::new();
    }
    let making = [
        "Arbiter::new",
        "Arbiter::with_tokio_rt",
        "Arbiter::current",
        "Arbiter::try_current",
        "System::new",
        "System::with_tokio_rt",
        "System::current",
        "System::try_current",
        "start_in_arbiter",
    ];
    let mut complaints = Vec::new();
    let launch = ["runtime/src/placement", "pipelines/src/node", "pipelines/src/cli"];
    if !belongs_to_any(source, &launch) {
        for phrase in making {
            let found = phrases(&source.code, phrase);
            let what = format!("`{phrase}` outside of launch code (ARCH-5)");
            complaints.extend(found.map(|at| source.complain(at, &what)));
        }
    }
    complaints
}

/// Broker and agent name each other only where a topic is an agent's source, sink or channel.
pub(super) fn broker_and_agent(source: &Source) -> Vec<String> {
    let ends = ["source", "sink", "channel"].map(|end| format!("actors/src/agent/{end}/topic"));
    let other = if belongs_to(source, "actors/src/broker") {
        "agent"
    } else if belongs_to(source, "actors/src/agent")
        && !ends.iter().any(|end| belongs_to(source, end))
    {
        "broker"
    } else {
        return Vec::new();
    };
    let found =
        words(&source.code).filter(|(at, word)| *word == other && is_path(&source.code, *at));
    found.map(|(at, _)| source.complain(at, &format!("`{other}` is not known here"))).collect()
}

/// Whether the word at `at` is part of a path or of a `use`.
fn is_path(code: &str, at: usize) -> bool {
    let word_len = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(0);
    let statement = code[..at].rfind(';').map_or(0, |at| at + 1);
    code[..at].ends_with("::")
        || code[at + word_len..].starts_with("::")
        || code[statement..at].trim_start().starts_with("use ")
}

/// A handler's future must not reach the actor again: results come back as a step of their own.
/// (A future that is `'static` cannot borrow the actor; these are the ways around that.)
pub(super) fn state_after_await(source: &Source) -> Vec<String> {
    if !in_crates(source) {
        return Vec::new();
    }
    let why =
        "lets a future hold an actor between its steps: hand the result back by a step instead";
    let mut complaints = banned(source, &["AtomicResponse", "ResponseActFuture"], why);
    let waits = phrases(&source.code, "ctx.wait");
    complaints.extend(waits.map(|at| source.complain(at, &format!("`ctx.wait` {why}"))));
    let is_actor = phrases(&source.code, "Actor for").next().is_some();
    if is_actor && source.path.starts_with("actors/") {
        complaints.extend(banned(source, &["RefCell"], why));
    }
    complaints
}

/// The wall clock and the system's randomness each stand behind their port.
pub(super) fn clock_and_random(source: &Source) -> Vec<String> {
    if !in_crates(source) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    if !belongs_to(source, "runtime/src/clock") {
        complaints.extend(banned(source, &["SystemTime", "UNIX_EPOCH"], "only clock.rs knows it"));
    }
    if !belongs_to(source, "runtime/src/rng") {
        let random = ["rand", "getrandom", "RandomState", "thread_rng", "new_v4", "new_v7"];
        complaints.extend(banned(source, &random, "only rng.rs draws"));
    }
    complaints
}

/// Nothing that says "later", and nothing that was for one's own eyes.
pub(super) fn leftovers(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for view in [&source.code, &source.tests] {
        for name in ["dbg!", "todo!", "unimplemented!"] {
            let found = phrases(view, name);
            complaints.extend(found.map(|at| source.complain(at, &format!("`{name}`"))));
        }
    }
    for name in ["FIXME", "XXX", "TODO"] {
        let found = phrases(&source.comments, name);
        complaints.extend(found.map(|at| source.complain(at, &format!("`{name}` in a comment"))));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<String>;

    /// The rule complains about `bad` at `path`, and about none of `good`.
    #[track_caller]
    fn check(rule: Rule, path: &str, bad: &[&str], good: &[(&str, &str)]) {
        for text in bad {
            assert_eq!(rule(&Source::new(path, text)).len(), 1, "{path}: {text}");
        }
        for (path, text) in good {
            assert_eq!(rule(&Source::new(path, text)), Vec::<String>::new(), "{path}: {text}");
        }
    }

    #[test]
    fn a_domain_name_in_the_runtime_is_found() {
        check(
            domain_names_in_runtime,
            "runtime/src/a.rs",
            &["struct TopicLog;", "pub mod sinks {}", "enum ConsumerGroup {}"],
            &[
                ("actors/src/a.rs", "struct TopicLog;"),
                ("runtime/src/a.rs", "/// struct Topic\nstruct Stopic; fn topic(source: u8) {}"),
                ("runtime/src/a.rs", "#[cfg(test)] mod tests { struct Topic; }"),
            ],
        );
    }

    #[test]
    fn an_impure_core_is_found() {
        check(
            impure_cores,
            "actors/src/broker/partition/state.rs",
            &[
                "use actix::Addr;",
                "use std::{fs, io};",
                "fn now() { Instant::now(); }",
                "async fn a() {}",
            ],
            &[
                ("actors/src/broker/partition.rs", "use actix::Addr;"),
                ("runtime/src/codec.rs", "#[cfg(test)] mod tests { use std::fs; }"),
                ("runtime/src/codec.rs", "// no tokio here\nfn offs() {}"),
            ],
        );
        check(impure_cores, "runtime/src/batch/builder.rs", &["use tokio::time;"], &[]);
    }

    #[test]
    fn unsafe_code_is_found() {
        check(
            unsafe_code,
            "runtime/src/log.rs",
            &["fn a() { unsafe { b() } }"],
            &[
                ("runtime/src/disk/uring.rs", "unsafe {}"),
                ("runtime/src/log.rs", "#![expect(unsafe_code)] // unsafe"),
            ],
        );
    }

    #[test]
    fn a_crate_outside_of_its_fence_is_found() {
        check(
            fenced_crates,
            "actors/src/broker.rs",
            &["use bincode::Options;", "use dashmap::DashMap;"],
            &[
                ("runtime/src/codec.rs", "use bincode::Options;"),
                ("runtime/src/registry.rs", "use dashmap::DashMap;"),
            ],
        );
        check(fenced_crates, "runtime/src/registry.rs", &["use bincode::Options;"], &[]);
    }

    #[test]
    fn an_arbiter_that_is_made_elsewhere_is_found() {
        check(
            arbiters,
            "actors/src/broker.rs",
            &["let a = Arbiter::new();", "System::current().stop();", "A::start_in_arbiter(&a)"],
            &[
                ("runtime/src/placement.rs", "Arbiter::new()"),
                ("tests/a.rs", "Arbiter::new()"),
                ("actors/src/broker.rs", "FileSystem::new(); let arbiter = 1;"),
            ],
        );
    }

    #[test]
    fn broker_and_agent_that_meet_elsewhere_are_found() {
        check(
            broker_and_agent,
            "actors/src/agent/source.rs",
            &["use crate::broker::Broker;", "use crate::{\n broker, x};", "fn a(b: broker::B) {}"],
            &[
                ("actors/src/agent/sink/topic.rs", "use crate::broker::Broker;"),
                ("actors/src/agent/sink.rs", "fn a(broker: u8) -> u8 { broker }"),
                ("actors/src/lib.rs", "pub mod agent; use crate::broker::Broker;"),
            ],
        );
        check(broker_and_agent, "actors/src/broker/a.rs", &["use super::super::agent;"], &[]);
    }

    #[test]
    fn a_future_that_reaches_its_actor_is_found() {
        check(
            state_after_await,
            "actors/src/a.rs",
            &[
                "type Result = AtomicResponse<Self, ()>;",
                "type Result = ResponseActFuture<Self, ()>;",
                "ctx.wait(future);",
                "impl Actor for A {} struct A { b: Rc<RefCell<u8>> }",
            ],
            &[("actors/src/a.rs", "struct A { b: RefCell<u8> }"), ("tests/a.rs", "ctx.wait(x)")],
        );
    }

    #[test]
    fn clocks_and_randomness_elsewhere_are_found() {
        check(
            clock_and_random,
            "pipelines/src/a.rs",
            &["use std::time::SystemTime;", "let id = Uuid::new_v4();", "use rand::Rng;"],
            &[
                ("runtime/src/clock.rs", "SystemTime::now()"),
                ("runtime/src/rng.rs", "RandomState::new()"),
                ("pipelines/src/a.rs", "// SystemTime\nlet random = \"rand\";"),
            ],
        );
    }

    #[test]
    fn leftovers_are_found() {
        check(
            leftovers,
            "actors/src/a.rs",
            &["dbg!(x)", "#[cfg(test)] mod t { fn a() { todo!() } }", "// FIXME: x", "/// XXX"],
            &[("actors/src/a.rs", "let x = \"FIXME\"; fn todo() {}")],
        );
    }
}

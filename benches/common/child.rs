//! A part of a bench that needs a process of its own: to be killed, or to be looked at from outside.

use std::{
    env, io,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{self, ChildStdout, Command, Stdio},
    thread,
};

use tokio::sync::oneshot;

/// This program, in another role.
pub(crate) struct Child {
    process: process::Child,
    told: BufReader<ChildStdout>,
}

impl Child {
    /// Starts it in `role`, with `dir`.
    pub(crate) fn start(role: &str, dir: &Path) -> Self {
        let program = env::current_exe().expect("a running program has a path");
        let mut process = Command::new(program)
            .args(["--child", role, "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program starts itself");
        let told = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, told }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next number that it tells.
    pub(crate) fn number(&mut self) -> u64 {
        let mut line = String::new();
        self.told.read_line(&mut line).expect("it writes text");
        line.trim().parse().unwrap_or_else(|_| panic!("the child ended with `{line}`"))
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is our child");
    }

    /// Lets it end in order.
    pub(crate) fn stop(mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("it is our child");
        assert!(status.success(), "the child ended with {status}");
    }
}

/// In a child: tells the parent a number.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
pub(crate) fn tell(number: u64) {
    println!("{number}");
}

/// In a child: resolves when the parent lets it end.
pub(crate) async fn let_go() {
    let (told, end) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::stdin().lock().lines().count();
        let _ = told.send(());
    });
    let _ = end.await;
}

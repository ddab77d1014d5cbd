//! Runs the program, and waits for what it says.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::time::Instant;

/// The longest that it may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, where it was built; else the reason is said.
pub(crate) fn built() -> Option<PathBuf> {
    let built = std::env::var_os("FLUMEN_BIN").map(PathBuf::from);
    if built.is_none() {
        skip("FLUMEN_BIN names no program: run `tests/run cli`, which builds it");
    }
    built
}

/// Says why a test does nothing; a failure where everything must be there.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}

/// A directory of its own, in which the program runs.
pub(crate) struct Place {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Place {
    /// None where there is no program.
    pub(crate) fn new() -> Option<Self> {
        let program = built()?;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        Some(Self { program, dir })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_remove("FLUMEN_LOG");
        command
    }

    /// Runs it to its end, with this in the environment.
    pub(crate) fn run_with(&self, name: &str, value: &str, args: &str) -> Said {
        let mut command = self.command(&args.split(' ').collect::<Vec<_>>());
        Said::from(command.env(name, value).output().unwrap())
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &str) -> Said {
        let running = self.start(args);
        running.ended()
    }

    /// It must do what it is told; what it prints.
    #[track_caller]
    pub(crate) fn succeed(&self, args: &str) -> String {
        let said = self.run(args);
        assert!(said.status.success(), "`{args}`: {}: {}", said.status, said.err);
        said.out
    }

    /// The same with arguments that have blanks in them.
    #[track_caller]
    pub(crate) fn succeed_with(&self, args: &[&str]) -> String {
        let said = Said::from(self.command(args).output().unwrap());
        assert!(said.status.success(), "{args:?}: {}: {}", said.status, said.err);
        said.out
    }

    /// Runs it with this input.
    pub(crate) fn fed(&self, args: &str, input: &str) -> Said {
        let file = self.path("input");
        fs::write(&file, input).unwrap();
        let mut command = self.command(&args.split(' ').collect::<Vec<_>>());
        Said::from(command.stdin(File::open(file).unwrap()).output().unwrap())
    }

    /// Runs it at a terminal, with what the shell may add to its line; all that is drawn there. None where
    /// there is no `script`, which makes terminals.
    pub(crate) fn at_terminal(&self, args: &str) -> Option<String> {
        let line = format!("{} {args}", self.program.display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).env("TERM", "xterm");
        match command.output() {
            Ok(output) => {
                let said = Said::from(output);
                assert!(said.status.success(), "`{line}`: {}: {}", said.status, said.out);
                Some(said.out)
            }
            Err(error) => {
                skip(&format!("no terminal can be made with `script`: {error}"));
                None
            }
        }
    }

    /// It must do with this input what it is told; what it prints.
    #[track_caller]
    pub(crate) fn feed(&self, args: &str, input: &str) -> String {
        let said = self.fed(args, input);
        assert!(said.status.success(), "`{args}`: {}: {}", said.status, said.err);
        said.out
    }

    /// It must refuse, with one sentence that has all of these words and no panic; the sentence.
    #[track_caller]
    pub(crate) fn refuse(&self, args: &str, words: &[&str]) -> String {
        let said = self.run(args);
        assert!(!said.status.success(), "`{args}` succeeded: {}{}", said.out, said.err);
        said.tells(words);
        said.err
    }

    /// Starts it; it runs until it is told to stop.
    pub(crate) fn start(&self, args: &str) -> Running {
        self.start_fed(args, Stdio::null())
    }

    /// The same with this input.
    pub(crate) fn start_fed(&self, args: &str, input: Stdio) -> Running {
        let home = tempfile::tempdir().unwrap();
        let (out, err) = (home.path().join("out"), home.path().join("err"));
        let mut command = self.command(&args.split(' ').collect::<Vec<_>>());
        command.stdin(input);
        let child =
            command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn();
        Running { child: child.unwrap(), out, err, _home: home }
    }

    /// Adds lines to a file below `logs`.
    pub(crate) fn write(&self, file: &str, lines: std::ops::Range<u32>) {
        use std::io::Write as _;
        let path = self.path("logs").join(file);
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        let text: String = lines.map(|line| format!("line {line}\n")).collect();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// What it said, and how it ended.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// It said all of this, and no more than a person can take in.
    #[track_caller]
    pub(crate) fn tells(&self, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The program while it runs.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    _home: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits until `is` says so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        // Real time: another process is waited for.
        thread::park_timeout(Duration::from_millis(20));
    }
}

impl Running {
    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn has_said(&self, words: &str) {
        wait_until(words, || read(&self.err).contains(words));
    }

    /// The word that it said after these.
    #[track_caller]
    pub(crate) fn word_after(&self, words: &str) -> String {
        let said = read(&self.err);
        let word =
            said.split(words).nth(1).and_then(|rest| rest.split([' ', ';', ',', '\n']).next());
        word.unwrap_or_else(|| panic!("no `{words}` in: {said}")).to_owned()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        read(&self.err)
    }

    /// Waits until it has printed this.
    #[track_caller]
    pub(crate) fn has_printed(&self, words: &str) {
        wait_until(words, || read(&self.out).contains(words));
    }

    /// From now on it may open so many files more than it has open.
    pub(crate) fn limit_files(&self, more: u64) {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count() as u64;
        let (pid, limit) = (Pid::from_child(&self.child), Some(open + more));
        let limit = Rlimit { current: limit, maximum: limit };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What Ctrl-C does.
    pub(crate) fn interrupt(self) -> Said {
        self.signal(Signal::INT);
        self.ended()
    }

    /// What a service manager does.
    pub(crate) fn terminate(self) -> Said {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Said {
        let mut status = None;
        let err = self.err.clone();
        wait_until(&format!("its end; it said: {}", read(&err)), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Said { status: status.unwrap(), out: read(&self.out), err: read(&self.err) }
    }
}

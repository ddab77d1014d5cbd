//! Clients in processes of their own, and what they write down.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::time::Instant;

use crate::history::Event;

/// Producers of a run, each with the codec that it compresses with.
const CODECS: [&str; 8] = ["none", "lz4", "none", "zstd", "gzip", "none", "snappy", "none"];
/// Members of the group.
const MEMBERS: u32 = 3;
/// The topics, with their partitions; the last is compacted.
pub(crate) const TOPICS: [&str; 3] = ["orders:3", "clicks:2", "latest:2:compact"];
/// Where the node has the compacted partitions, in its data directory.
pub(crate) const COMPACTED: [&str; 2] = ["latest-0", "latest-1"];
const GROUP: &str = "readers";
/// The longest that a client may take for its end; each has a shorter patience of its own.
const PATIENCE: Duration = Duration::from_secs(150);

struct Client {
    name: String,
    child: Child,
    /// Closed, it tells the client to end.
    told: Option<ChildStdin>,
    hearing: JoinHandle<()>,
    errors: PathBuf,
}

/// See the module.
pub(crate) struct Crowd {
    python: String,
    address: String,
    home: tempfile::TempDir,
    book: Arc<Mutex<Vec<Event>>>,
    producers: Vec<Client>,
    members: Vec<Client>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for client in self.producers.iter_mut().chain(&mut self.members) {
            // It has ended, or the test has failed.
            let _ = client.child.kill();
            let _ = client.child.wait();
        }
    }
}

impl Crowd {
    /// Of clients for the node at `address`, which `python` runs.
    pub(crate) fn new(python: String, address: String) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        let (producers, members) = (Vec::new(), Vec::new());
        Self { python, address, home, book: Arc::default(), producers, members }
    }

    /// Makes the topics.
    pub(crate) fn make_topics(&self) -> Result<(), String> {
        self.ended(self.start("topics", &TOPICS))
    }

    /// Starts everyone. The members share partitions as `assignor` says.
    pub(crate) fn begin(&mut self, assignor: &str) {
        for (number, codec) in CODECS.iter().enumerate() {
            let name = format!("p{number}");
            let args = [&[&name, *codec][..], &TOPICS].concat();
            self.producers.push(self.start("produce", &args));
        }
        let names: Vec<&str> = TOPICS.iter().filter_map(|topic| topic.split(':').next()).collect();
        for number in 0..MEMBERS {
            let name = format!("m{number}");
            let args = [&[&name, GROUP, assignor][..], &names].concat();
            self.members.push(self.start("consume", &args));
        }
    }

    fn start(&self, role: &str, args: &[&str]) -> Client {
        let name = format!("{role} {}", args.first().unwrap_or(&""));
        let errors = self.home.path().join(name.replace(' ', "-"));
        let mut child = Command::new(&self.python)
            .args(["tests/crash_clients/client.py", &self.address, role])
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("a file can be made"))
            .spawn()
            .expect("Python was found, and runs");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let book = Arc::clone(&self.book);
        let hearing = thread::spawn(move || {
            // What a client says in between is whole: nobody kills it.
            for line in output.lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else { panic!("no event: {line}") };
                book.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Client { name, told: child.stdin.take(), child, hearing, errors }
    }

    /// Waits for the end of a client, and until all it said is written down.
    fn ended(&self, mut client: Client) -> Result<(), String> {
        drop(client.told.take());
        let began = Instant::now();
        let status = loop {
            match client.child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if began.elapsed() < PATIENCE => {
                    // Real time: another process is waited for.
                    thread::park_timeout(Duration::from_millis(20));
                }
                Ok(None) => break Err("it does not end".to_owned()),
                Err(error) => break Err(error.to_string()),
            }
        };
        let _ = client.child.kill();
        let heard = client.hearing.join().map_err(|_| "it said what is no event");
        let said = fs::read_to_string(&client.errors).unwrap_or_default();
        match status {
            Ok(status) if status.success() => {
                heard.map_err(|why| format!("{}: {why}", client.name))
            }
            Ok(status) => Err(format!("`{}` ended with {status}: {said}", client.name)),
            Err(why) => Err(format!("`{}`: {why}: {said}", client.name)),
        }
    }

    /// An error where one has ended by itself.
    pub(crate) fn all_are_well(&mut self) -> Result<(), String> {
        for client in self.producers.iter_mut().chain(&mut self.members) {
            if let Ok(Some(status)) = client.child.try_wait() {
                let said = fs::read_to_string(&client.errors).unwrap_or_default();
                return Err(format!("`{}` ended by itself, {status}: {said}", client.name));
            }
        }
        Ok(())
    }

    /// Producers end, all that they sent answered.
    pub(crate) fn end_producing(&mut self) -> Result<(), String> {
        let mut producers = std::mem::take(&mut self.producers);
        // All are told before one is waited for.
        producers.iter_mut().for_each(|client| drop(client.told.take()));
        let ended: Vec<_> = producers.into_iter().map(|client| self.ended(client)).collect();
        ended.into_iter().collect()
    }

    /// Members end, all that they were given committed.
    pub(crate) fn end_consuming(&mut self) -> Result<(), String> {
        let mut members = std::mem::take(&mut self.members);
        members.iter_mut().for_each(|client| drop(client.told.take()));
        let ended: Vec<_> = members.into_iter().map(|client| self.ended(client)).collect();
        ended.into_iter().collect()
    }

    /// Everyone is gone at once.
    pub(crate) fn abandon(&mut self) {
        for mut client in self.producers.drain(..).chain(self.members.drain(..)) {
            let _ = client.child.kill();
            let _ = client.child.wait();
            let _ = client.hearing.join();
        }
    }

    /// Reads all that is held and committed.
    pub(crate) fn read(&self) -> Result<(), String> {
        self.ended(self.start("read", &[&[GROUP][..], &TOPICS].concat()))
    }

    /// What is written down so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        look(&self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

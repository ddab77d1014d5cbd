//! Kafka itself: one node without ZooKeeper, from the jars that `tests/run` fetches.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::wait_until;

/// Where Kafka's files are, and how it is started.
pub(crate) struct Kafka {
    jars: String,
    home: tempfile::TempDir,
    pub(crate) address: String,
}

/// A Kafka that runs.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports that nobody listens on.
fn ports() -> (u16, u16) {
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = free.map(|socket| socket.local_addr().unwrap().port());
    (one, two)
}

/// Whether the Kafka at `address` tells that it serves. It takes connections before, and does not stop in order
/// when it is told to before it has begun.
fn serves(address: &str) -> io::Result<bool> {
    // Metadata in version 1, of no topic: length, API, version, number, no client's name, no topics.
    let asked = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(&asked)?;
    // Length, number, and how many nodes there are that serve.
    let mut told = [0; 12];
    connection.read_exact(&mut told)?;
    Ok(told[8..] != [0; 4])
}

impl Kafka {
    /// Formats a directory for it.
    pub(crate) fn new(jars: String) -> Self {
        let (home, (port, controller)) = (tempfile::tempdir().unwrap(), ports());
        let address = format!("127.0.0.1:{port}");
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        let properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             log.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=2\n\
             group.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        fs::write(home.path().join("server.properties"), properties).unwrap();
        let kafka = Self { jars, home, address };
        let formatted = kafka
            .java("kafka.tools.StorageTool")
            .args(["format", "--cluster-id", "AAECAwQFBgcICQoLDA0ODw", "--config"])
            .arg("server.properties")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success(), "{said}");
        kafka
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", self.jars)]);
        command.arg(class).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it serves.
    pub(crate) fn start(&self) -> Running {
        let out = self.home.path().join("out");
        let mut command = self.java("kafka.Kafka");
        command.arg("server.properties").stdout(File::create(&out).unwrap());
        let running = Running { child: command.stderr(Stdio::null()).spawn().unwrap(), out };
        wait_until("Kafka", || serves(&self.address).is_ok_and(|serves| serves));
        running
    }
}

impl Running {
    /// Stops it in order.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        wait_until("the end of Kafka", || self.child.try_wait().unwrap().is_some());
    }

    /// Ends it at once.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Where its output is.
    pub(crate) fn out(&self) -> &Path {
        &self.out
    }
}

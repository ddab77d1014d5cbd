//! The live view: rates, what is on its way, and latencies.

use std::{convert::Infallible, io::IsTerminal as _, sync::Arc, time::Duration};

use flumen_runtime::latency::duration;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{DemoOptions, GROUPS, PIPELINE, Waited, Written, kill::Killed, published};
use crate::{cli::tell, node::Node, running::Running};

/// How often it is drawn.
const EVERY: Duration = Duration::from_secs(1);
/// Cells of the bar.
const BAR: usize = 48;

/// What is looked at.
pub(super) struct View {
    is_quiet: bool,
    epoch: Instant,
    duration: Duration,
    written: Arc<Written>,
    killed: Killed,
    waited: [Waited; 2],
}

/// What is seen at one moment.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    elapsed: Duration,
    duration: Duration,
    written: u64,
    per_second: u64,
    rotations: u64,
    buffered: u64,
    groups: Vec<Row>,
    killed: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    name: &'static str,
    delivered: u64,
    per_second: u64,
    lag: u64,
    percentiles: [Duration; 3],
}

impl View {
    pub(super) fn new(
        options: &DemoOptions,
        epoch: Instant,
        written: &Arc<Written>,
        killed: &Killed,
        waited: &[Waited; 2],
    ) -> Self {
        let (is_quiet, duration) = (options.is_quiet, options.duration);
        let (written, killed, waited) = (written.clone(), killed.clone(), waited.clone());
        Self { is_quiet, epoch, duration, written, killed, waited }
    }

    /// Shows how it goes, for ever. On a terminal the view stays in its place and goes at the end;
    /// elsewhere it is a line each time.
    pub(super) async fn show(self, node: &Node, running: &Running) -> Infallible {
        if self.is_quiet {
            return futures::future::pending().await;
        }
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let bar = bar.with_finish(indicatif::ProgressFinish::AndClear);
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template fits"));
        let mut before = Snapshot::default();
        loop {
            let now = self.look(node, running, &before).await;
            if is_terminal {
                bar.set_message(now.table(std::env::var_os("NO_COLOR").is_none()));
                bar.tick();
            } else {
                tell(now.line());
            }
            before = now;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look(&self, node: &Node, running: &Running, before: &Snapshot) -> Snapshot {
        let (status, published) = (running.status().await, published(node).await);
        let elapsed = self.epoch.elapsed();
        let seconds = (elapsed - before.elapsed).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
        let rows = GROUPS.iter().zip(&self.waited).enumerate().map(|(at, (name, waited))| {
            let lag = status.lag.get(&format!("{PIPELINE}/{name}")).copied().unwrap_or(0);
            let delivered = published.saturating_sub(lag);
            let earlier = before.groups.get(at).map_or(0, |row| row.delivered);
            let latency = waited.latency();
            let percentiles = [latency.p50(), latency.p99(), latency.p999()];
            let per_second = rate(delivered, earlier);
            let written = self.written.lines();
            Row { name, delivered, per_second, lag: written.saturating_sub(delivered), percentiles }
        });
        let written = self.written.lines();
        Snapshot {
            elapsed,
            duration: self.duration,
            written,
            per_second: rate(written, before.written),
            rotations: self.written.rotations(),
            buffered: status.channels.values().map(|channel| channel.events as u64).sum(),
            groups: rows.collect(),
            killed: self.killed.names(),
        }
    }
}

impl Snapshot {
    /// For a terminal.
    fn table(&self, has_colour: bool) -> String {
        let style = |code: &str, text: String| match has_colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text,
        };
        let share = self.elapsed.as_secs_f64() / self.duration.as_secs_f64().max(0.001);
        let full = ((share * BAR as f64) as usize).min(BAR);
        let phase = if share < 1.0 { "writing" } else { "reading" };
        let mut table = format!(
            "{phase}  {}{}  {:.0} s of {:.0} s\n\n",
            style("36", "━".repeat(full)),
            style("2", "─".repeat(BAR - full)),
            self.elapsed.as_secs_f64().min(self.duration.as_secs_f64()),
            self.duration.as_secs_f64(),
        );
        table += &format!(
            "written  {:>11}  {:>9}/s    rotated: {}\nbuffered {:>11}\n\n",
            count(self.written),
            count(self.per_second),
            self.rotations,
            count(self.buffered)
        );
        let head = ["delivered", "/s", "lag", "p50", "p99", "p99.9"];
        let head = format!(
            "group    {:>11}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
            head[0], head[1], head[2], head[3], head[4], head[5]
        );
        table += &style("1", head);
        for Row { name, delivered, per_second, lag, percentiles } in &self.groups {
            let [p50, p99, p999] = percentiles.map(duration);
            table += &format!(
                "\n{name:<8} {:>11}  {:>9}  {:>9}  {p50:>9}  {p99:>9}  {p999:>9}",
                count(*delivered),
                count(*per_second),
                count(*lag)
            );
        }
        table + "\n\nkilled   " + &style("31", self.killed.join("  ")) + "\n"
    }

    /// For a file or a pipe.
    fn line(&self) -> String {
        let mut line = format!(
            "{:>3.0} s  written {} ({}/s)",
            self.elapsed.as_secs_f64(),
            count(self.written),
            count(self.per_second)
        );
        for row in &self.groups {
            let p99 = duration(row.percentiles[1]);
            line += &format!(
                "  {} {} lag {} p99 {p99}",
                row.name,
                count(row.delivered),
                count(row.lag)
            );
        }
        line + &format!("  killed {}", self.killed.len())
    }
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let percentiles = [62, 141, 276].map(Duration::from_millis);
        let row = |name| Row { name, delivered: 104_712, per_second: 5_020, lag: 272, percentiles };
        Snapshot {
            elapsed: Duration::from_secs(5),
            duration: Duration::from_secs(20),
            written: 104_984,
            per_second: 5_012,
            rotations: 3,
            buffered: 212,
            groups: GROUPS.map(row).to_vec(),
            killed: vec!["demo/tail".to_owned()],
        }
    }

    #[test]
    fn columns_stand_below_their_heads_and_fit_eighty() {
        let table = snapshot().table(false);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        let ends = |line: &str| line.rfind("p99.9").map(|at| at + 5);
        let head = table.lines().find_map(ends).unwrap();
        let row = table.lines().find(|line| line.starts_with("count")).unwrap();
        assert_eq!(row.chars().count(), head, "{table}");
    }

    #[test]
    fn colours_change_no_letter() {
        let plain = snapshot().table(false);
        let coloured = snapshot().table(true);
        let mut stripped = coloured.clone();
        for code in ["1", "2", "31", "36", "0"] {
            stripped = stripped.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(stripped, plain);
        assert_ne!(coloured, plain);
    }

    #[test]
    fn a_line_says_the_same_to_a_pipe() {
        let line = snapshot().line();
        assert!(line.contains("written 104,984") && line.contains("files 104,712"), "{line}");
        assert!(!line.contains('\n') && !line.contains('\x1b'), "{line}");
    }
}

//! The live view: rates, what is on its way, and latencies.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use flumen_runtime::latency::duration;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{Group, Written};
use crate::cli::tell;

/// Shows how it goes, once a second, until it is aborted. On a terminal the view stays in its place.
pub(super) async fn show(written: Arc<Written>, groups: [Group; 2], epoch: Instant) {
    let is_terminal = std::io::stderr().is_terminal();
    let bar = if is_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{msg}").expect("the template fits"));
    let (mut lines, mut committed) = (0, [0; 2]);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = written.lines();
        let mut view = format!(
            "{:>4.0} s   written {:>9}   {:>8}/s   rotations {}\n",
            epoch.elapsed().as_secs_f64(),
            now,
            now - lines,
            written.rotations()
        );
        view += "group        delivered        /s        lag        p50        p99      p99.9\n";
        for (group, before) in groups.iter().zip(&mut committed) {
            let (done, latency) = (group.committed(), group.latency());
            let [p50, p99, p999] = [latency.p50(), latency.p99(), latency.p999()].map(duration);
            view += &format!(
                "{:<10} {:>11} {:>9} {:>10} {p50:>10} {p99:>10} {p999:>10}\n",
                group.name,
                done,
                done - *before,
                now.saturating_sub(done)
            );
            *before = done;
        }
        lines = now;
        if is_terminal {
            bar.set_message(view);
            bar.tick();
        } else {
            tell(view);
        }
    }
}

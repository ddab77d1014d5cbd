//! What every bench has in common: its command line, its checks, its figures and where they go.

mod chart;
mod child;
mod figure;
mod lone;
mod machine;
mod many;
mod pace;
mod program;
mod raw;

use std::{fmt, fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use flumen_runtime::latency::{self, Latency};

pub(crate) use self::{
    chart::{Line, chart_svg},
    child::{Child, let_go, tell},
    figure::{Bar, Figure},
    lone::{Lone, read_all},
    many::{lift_limits, make_partitions, opened},
    pace::Pace,
    program::{run_at, run_beside},
    raw::Raw,
};

// As the binary has it: an allocator costs a factor of two on frames that cross threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Less of everything: checks the work, and measures roughly.
    #[arg(long)]
    quick: bool,
    /// Writes the figures to this file as a JSON array.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this process is for, where a bench has started it.
    #[arg(long, hide = true, requires = "dir")]
    child: Option<String>,
    /// What that child works on.
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
}

/// In a process that a bench has started: what for, and on which directory.
pub(crate) fn child() -> Option<(String, PathBuf)> {
    let Options { child, dir, .. } = Options::parse();
    child.zip(dir)
}

/// A run of one bench.
pub(crate) struct Bench {
    name: &'static str,
    quick: bool,
    json: Option<PathBuf>,
    figures: Vec<Figure>,
    failures: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "a bench is a program for people")]
impl Bench {
    /// Reads the command line, and says what is about to be measured, and on what.
    pub(crate) fn start(name: &'static str, about: &str) -> Self {
        let Options { quick, json, .. } = Options::parse();
        println!("{name}: {about}");
        println!("on {}", machine::describe());
        println!("{}", machine::disk());
        if quick {
            println!("quick: the work is checked; the figures are rough");
        }
        Self { name, quick, json, figures: Vec::new(), failures: Vec::new() }
    }

    /// `quick` in a quick run, else `full`.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Tells something on the way.
    pub(crate) fn say(&self, what: impl fmt::Display) {
        println!("  {what}");
    }

    /// Holds the work to what it should have come to: a bench that measures something else fails.
    pub(crate) fn check<T: PartialEq + fmt::Debug>(&mut self, what: &str, came: &T, should: &T) {
        if came == should {
            println!("  checked: {what}: {came:?}");
        } else {
            self.fail(format!("{what}: {came:?}, and not {should:?}"));
        }
    }

    fn fail(&mut self, what: String) {
        println!("  FAILED: {what}");
        self.failures.push(what);
    }

    /// Takes note of a figure, and says whether it meets its bar.
    pub(crate) fn figure(&mut self, figure: Figure) {
        println!("{figure}");
        if figure.is_enforced && !figure.is_met() {
            self.failures.push(format!("{} misses its bar", figure.name));
        }
        self.figures.push(figure);
    }

    /// Shows latencies as a table, and draws them.
    pub(crate) fn latencies(&self, series: &[(&str, &Latency)]) {
        for line in latency::table(series).lines() {
            println!("  {line}");
        }
        self.draw("latency", &latency::plot_svg(series));
    }

    /// Writes a drawing below `target/bench/`.
    pub(crate) fn draw(&self, what: &str, svg: &str) {
        let folder = machine::target().join("bench");
        let path = folder.join(format!("{}-{what}.svg", self.name));
        match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, svg)) {
            Ok(()) => println!("  drawn in {}", path.display()),
            Err(error) => println!("  cannot draw {}: {error}", path.display()),
        }
    }

    /// Where the bench keeps its data while it runs: on a disk, as what is measured would be.
    pub(crate) fn data(&self) -> tempfile::TempDir {
        let made = tempfile::Builder::new().prefix(self.name).tempdir_in(machine::scratch());
        made.expect("the build's own directory takes a temporary one")
    }

    /// Writes the figures, and ends.
    pub(crate) fn finish(self) -> ExitCode {
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&self.figures).expect("figures are plain numbers");
            if let Err(error) = fs::write(path, json) {
                println!("cannot write `{}`: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        if self.failures.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("{} failed: {}", self.name, self.failures.join("; "));
        ExitCode::FAILURE
    }
}

/// The middle one, or of an even number the upper of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

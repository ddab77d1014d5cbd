//! How far a command has come, for a person who looks: nothing is drawn where standard error is no
//! terminal, nor among what a command prints to one.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

/// A bar or, where nobody knows how much there is, a spinner.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

const BAR: &str = "{wide_bar} {percent}%  {msg}  {per_sec}  {eta} left";
const SPINNER: &str = "{spinner} {msg}  {per_sec}  {elapsed}";

impl Progress {
    /// Of `total`, counted in records or bytes, for a command that prints what it reads.
    #[must_use]
    pub fn of_output(total: Option<u64>) -> Self {
        if io::stdout().is_terminal() { Self(ProgressBar::hidden()) } else { Self::new(total) }
    }

    /// Of `total`, counted in records or bytes, for a command that prints nothing meanwhile.
    #[must_use]
    pub fn new(total: Option<u64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = if total.is_some() { BAR } else { SPINNER };
        let style = ProgressStyle::with_template(template).expect("the template fits");
        bar.set_style(style.with_key(
            "per_sec",
            |state: &ProgressState, out: &mut dyn fmt::Write| {
                // It can only be drawn, or not.
                let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
            },
        ));
        Self(bar)
    }

    /// Says how far it is.
    pub fn at(&self, position: u64, message: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_position(position);
            self.0.set_message(message());
        }
    }

    /// Lets something be said that is not to stand in its line.
    pub fn aside(&self, say: impl FnOnce()) {
        self.0.suspend(say);
    }

    /// Takes it away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

//! A figure: what was measured, against what, and its bar.

use std::fmt;

use serde::Serialize;

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// Its ratio to the reference.
    RatioAtLeast(f64),
    /// Its ratio to the reference.
    RatioAtMost(f64),
    /// The value, which is the reference then.
    AtMost,
}

/// One figure of a bench; in JSON its first five fields.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// Its name, the same for ever.
    #[serde(rename = "figure")]
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What the value is held against: measured in the same run, or where the bar is a number, that.
    pub(crate) reference: f64,
    /// `value / reference`.
    pub(crate) ratio: f64,
    #[serde(skip)]
    of: &'static str,
    #[serde(skip)]
    bar: Bar,
    #[serde(skip)]
    pub(crate) is_enforced: bool,
}

impl Figure {
    /// `value` against a `reference` from the same run, called `of`.
    pub(crate) fn against(
        name: &'static str,
        (value, unit): (f64, &'static str),
        (reference, of): (f64, &'static str),
        bar: Bar,
    ) -> Self {
        let ratio = value / reference;
        Self { name, value, unit, reference, ratio, of, bar, is_enforced: false }
    }

    /// `value`, which may be at most `most`.
    pub(crate) fn at_most(name: &'static str, value: f64, unit: &'static str, most: f64) -> Self {
        Self::against(name, (value, unit), (most, "its bar"), Bar::AtMost)
    }

    /// A miss fails the run: for figures that do not depend on how busy the machine is.
    pub(crate) fn enforced(mut self) -> Self {
        self.is_enforced = true;
        self
    }

    /// Whether it meets its bar.
    pub(crate) fn is_met(&self) -> bool {
        match self.bar {
            Bar::RatioAtLeast(least) => self.ratio >= least,
            Bar::RatioAtMost(most) => self.ratio <= most,
            Bar::AtMost => self.value <= self.reference,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, reference, ratio, of, .. } = self;
        let (value, reference) = (short(*value), short(*reference));
        write!(f, "{name}: {value} {unit}")?;
        match self.bar {
            Bar::AtMost => write!(f, "; bar: at most {reference}")?,
            Bar::RatioAtLeast(bar) => {
                write!(f, ", {ratio:.3} of {of} ({reference}); bar: at least {bar}")?;
            }
            Bar::RatioAtMost(bar) => {
                write!(f, ", {ratio:.3} of {of} ({reference}); bar: at most {bar}")?;
            }
        }
        f.write_str(if self.is_met() { ": met" } else { ": MISSED" })
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

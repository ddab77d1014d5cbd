//! OpenMetrics text, read strictly: whatever a scraper may refuse is an error here.

use std::collections::BTreeMap;

/// The types of families that there are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

type Labels = BTreeMap<String, String>;

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    families: BTreeMap<String, Kind>,
    samples: BTreeMap<(String, Labels), f64>,
}

/// What is known of the family at hand.
#[derive(Debug, Default)]
struct Family {
    name: String,
    has_help: bool,
    kind: Option<Kind>,
    unit: Option<String>,
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits)
}

impl Page {
    /// Reads all of it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end in `# EOF`")?;
        let (mut page, mut family) = (Self::default(), Family::default());
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(meta) => page.meta(meta, &mut family)?,
                None => page.sample(line, &family)?,
            }
        }
        page.check_histograms()?;
        Ok(page)
    }

    fn meta(&mut self, meta: &str, family: &mut Family) -> Result<(), String> {
        let mut parts = meta.splitn(3, ' ');
        let (what, name, rest) = (parts.next(), parts.next(), parts.next());
        let (Some(what), Some(name), Some(rest)) = (what, name, rest) else {
            return Err(format!("`# {meta}` says nothing"));
        };
        if family.name != name {
            if !is_name(name) || !name.starts_with("flumen_") || self.families.contains_key(name) {
                return Err(format!("`{name}` cannot be a family's name here"));
            }
            *family = Family { name: name.to_owned(), ..Family::default() };
        }
        match what {
            "HELP" if rest.len() > 8 && rest.ends_with('.') => family.has_help = true,
            "UNIT" if name.ends_with(&format!("_{rest}")) => family.unit = Some(rest.to_owned()),
            "TYPE" => {
                let kind = match rest {
                    "counter" => Kind::Counter,
                    "gauge" => Kind::Gauge,
                    "histogram" => Kind::Histogram,
                    other => return Err(format!("`{name}` has the type `{other}`")),
                };
                family.kind = Some(kind);
                self.families.insert(name.to_owned(), kind);
            }
            _ => return Err(format!("`# {meta}` does not fit")),
        }
        Ok(())
    }

    fn sample(&mut self, line: &str, family: &Family) -> Result<(), String> {
        let (series, value) = line.rsplit_once(' ').ok_or("a line without a value")?;
        let value: f64 = value.parse().map_err(|_| format!("`{line}` has no number"))?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels)?),
            None => (series, Labels::new()),
        };
        let suffix = name.strip_prefix(&*family.name).ok_or("a sample of no family")?;
        let fits = match family.kind {
            Some(Kind::Counter) => suffix == "_total",
            Some(Kind::Gauge) => suffix.is_empty(),
            Some(Kind::Histogram) => {
                family.unit.is_some()
                    && ["_sum", "_count", "_bucket"].contains(&suffix)
                    && labels.contains_key("le") == (suffix == "_bucket")
            }
            None => false,
        };
        if !fits || !family.has_help || !value.is_finite() || value < 0.0 {
            return Err(format!("`{line}` does not fit {family:?}"));
        }
        match self.samples.insert((name.to_owned(), labels), value) {
            Some(_) => Err(format!("`{series}` is there twice")),
            None => Ok(()),
        }
    }

    /// Buckets only grow, and the last has all.
    fn check_histograms(&self) -> Result<(), String> {
        for ((name, labels), count) in &self.samples {
            let Some(family) = name.strip_suffix("_count") else { continue };
            let mut buckets = Vec::new();
            for ((_, theirs), value) in
                self.samples.iter().filter(|((name, _), _)| *name == format!("{family}_bucket"))
            {
                let mut rest = theirs.clone();
                let le = rest.remove("le").unwrap_or_default();
                if rest == *labels {
                    let le = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap_or(-1.0) };
                    buckets.push((le, *value));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let grows = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            if !grows || buckets.last() != Some(&(f64::INFINITY, *count)) || buckets.len() != 17 {
                return Err(format!("the buckets of {family} {labels:?} are {buckets:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn families(&self) -> Vec<(String, Kind)> {
        self.families.iter().map(|(name, kind)| (name.clone(), *kind)).collect()
    }

    /// The samples of that name whose labels have all of these.
    fn matching(&self, name: &str, wanted: &[(&str, &str)]) -> Vec<f64> {
        let has = |labels: &Labels| {
            wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|is| is == value))
        };
        let samples = self.samples.iter().filter(|((is, labels), _)| is == name && has(labels));
        samples.map(|(_, value)| *value).collect()
    }

    /// The one sample of that name with these labels.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.matching(name, labels)[..] {
            [value] => value,
            ref found => panic!("{name}{labels:?} is there {} times", found.len()),
        }
    }

    /// All samples of that name with these labels together.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).iter().sum()
    }

    /// All samples of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<(&Labels, f64)> {
        let samples = self.samples.iter().filter(|((is, _), _)| is == name);
        samples.map(|((_, labels), value)| (labels, *value)).collect()
    }

    /// What may never go down.
    pub(crate) fn monotonic(&self) -> impl Iterator<Item = ((String, Labels), f64)> {
        let ends = ["_total", "_sum", "_count", "_bucket"];
        let samples = self.samples.iter();
        let samples =
            samples.filter(move |((name, _), _)| ends.iter().any(|end| name.ends_with(end)));
        samples.map(|(key, value)| (key.clone(), *value))
    }
}

fn parse_labels(text: &str) -> Result<Labels, String> {
    let body = text.strip_suffix('}').ok_or("labels without an end")?;
    let mut labels = Labels::new();
    // No value here has a comma or a quote in it.
    for pair in body.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a label without a value")?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = value.ok_or("a label's value stands in quotes")?;
        if !is_name(key) || labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the label `{key}` does not fit"));
        }
    }
    Ok(labels)
}

#[test]
fn what_a_scraper_would_refuse_is_refused() {
    let fine =
        "# HELP flumen_a Some sentence.\n# TYPE flumen_a counter\nflumen_a_total{x=\"y\"} 1\n";
    Page::parse(&format!("{fine}# EOF\n")).unwrap();
    for (from, to) in [
        ("# EOF", "# END"),
        ("_total", "_count"),
        ("counter", "summary"),
        (" 1\n", " one\n"),
        ("# HELP flumen_a Some sentence.\n", ""),
        ("flumen_a", "other_a"),
        (" 1\n", " 1\nflumen_a_total{x=\"y\"} 2\n"),
        ("{x=\"y\"}", "{x=y}"),
    ] {
        let bad = format!("{fine}# EOF\n").replace(from, to);
        assert!(Page::parse(&bad).is_err(), "{bad}");
    }
    let timed = "# HELP flumen_t_seconds Some sentence.\n# TYPE flumen_t_seconds histogram\n\
                 # UNIT flumen_t_seconds seconds\nflumen_t_seconds_sum 1\nflumen_t_seconds_count 1\n\
                 flumen_t_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
    assert!(Page::parse(timed).is_err(), "buckets are missing");
}

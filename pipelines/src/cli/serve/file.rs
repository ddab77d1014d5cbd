//! `flumen.toml`: what the command line of `flumen serve` says, in a file.
//!
//! ```toml
//! listen = ["0.0.0.0:9092", "[::1]:9093"]
//! advertise = ["broker.example:9092"]     # one for each listener, in their order
//! data = ["/disk1/flumen", "/disk2/flumen"]
//! disk = "auto"
//! metrics = "127.0.0.1:9464"
//!
//! [set]                                   # Kafka's names
//! num.partitions = 3
//! flush.messages = 1
//! "max.connections.per.ip" = 100          # in quotes beside `max.connections`
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::super::{CliError, DiskArg};
use crate::node::NodeOptions;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, deserialize_with = "one_or_more")]
    pub(super) listen: Vec<String>,
    #[serde(default, deserialize_with = "one_or_more")]
    pub(super) advertise: Vec<String>,
    #[serde(default, deserialize_with = "one_or_more")]
    pub(super) data: Vec<PathBuf>,
    pub(super) disk: Option<DiskArg>,
    pub(super) node: Option<u32>,
    pub(super) arbiters: Option<u32>,
    pub(super) metrics: Option<String>,
    #[serde(default)]
    pub(super) set: Settings,
}

/// Settings by their whole names, each checked where it stands.
#[derive(Debug, Default)]
pub(super) struct Settings(pub(super) Vec<(String, String)>);

impl File {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let failed = |error| CliError::File { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text).map_err(|(line, why)| CliError::Config {
            path: path.to_owned(),
            line,
            why,
        })
    }

    /// What `text` says, or the line that is wrong.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            (line, error.message().trim().replace('\n', ", "))
        })
    }
}

/// A text, or a list of such.
fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text in quotes, or a list of such")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = texts.next_element()? {
                all.push(text);
            }
            Ok(all)
        }
    }

    Ok(deserializer.deserialize_any(Texts)?.into_iter().map(T::from).collect())
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        Under { name: String::new(), all: &mut all }.deserialize(deserializer)?;
        Ok(Self(all))
    }
}

/// What stands under a name. TOML takes `num.partitions` for a table `num` with an entry
/// `partitions`.
struct Under<'a> {
    name: String,
    all: &'a mut Vec<(String, String)>,
}

impl Under<'_> {
    fn value<E: Error>(self, value: &str) -> Result<(), E> {
        // Checked against a node that nobody has set up: here the line is known.
        NodeOptions::new("").set(&self.name, value).map_err(E::custom)?;
        self.all.push((self.name, value.to_owned()));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Under<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Under<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text in quotes, or true or false")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.value(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.value(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.value(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.value(&value.to_string())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.value(&value.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            let name = if self.name.is_empty() { key } else { format!("{}.{key}", self.name) };
            entries.next_value_seed(Under { name, all: &mut *self.all })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_the_command_line_does() {
        let file = File::parse(
            r#"
            listen = ["127.0.0.1:9092", "[::1]:9093"]
            data = "data"
            disk = "threads"
            [set]
            num.partitions = 3
            auto.create.topics.enable = false
            flush.messages = 9223372036854775807
            min.cleanable.dirty.ratio = 0.25
            cleanup.policy = "compact"
            max.connections = 7
            "max.connections.per.ip" = 5
            "#,
        )
        .unwrap();
        assert_eq!(file.listen, ["127.0.0.1:9092", "[::1]:9093"]);
        assert_eq!(file.data, [PathBuf::from("data")]);
        let mut set: Vec<String> =
            file.set.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        set.sort();
        assert_eq!(
            set,
            [
                "auto.create.topics.enable=false",
                "cleanup.policy=compact",
                "flush.messages=9223372036854775807",
                "max.connections.per.ip=5",
                "max.connections=7",
                "min.cleanable.dirty.ratio=0.25",
                "num.partitions=3",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, wanted, words) in [
            ("data = \"d\"\nlissen = \"a:1\"\n", 2, "unknown field `lissen`"),
            ("\n\ndisk = \"floppy\"\n", 3, "floppy"),
            ("listen = 9092\n", 1, "a text in quotes"),
            ("[set]\nnum.partitions = 3\nretention.ms = \"soon\"\n", 3, "retention.ms=soon"),
            ("[set]\n\nno.such.setting = 1\n", 3, "no setting `no.such.setting`"),
            ("[set]\nnum.partitions = 0\n", 2, "at least 1"),
            ("listen = [\n", 1, ""),
        ] {
            let (line, why) = File::parse(text).unwrap_err();
            assert!(why.contains(words), "{text:?}: {why}");
            assert_eq!(line, wanted, "{text:?}: {why}");
        }
    }
}

//! `meta.properties`: text in Java's properties format, as Kafka's `MetaProperties` writes it.

use std::{collections::BTreeMap, fmt};

use uuid::Uuid;

use super::FORMAT;

/// What a `meta.properties` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) node: u32,
    pub(super) cluster: Uuid,
    pub(super) directory: Uuid,
}

/// What is wrong with a `meta.properties`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetaError {
    /// It names a format of a later version.
    #[error("has format {0}, which is newer than {FORMAT}")]
    Newer(u32),
    /// A key is not there.
    #[error("does not say `{0}`, so another program made it, or it is damaged")]
    Missing(&'static str),
    /// A value is not what its key allows.
    #[error("says `{key}={value}`, which is not {expected}")]
    Malformed {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Meta {
    /// Reads the text. The format comes first: what a later one changed must not be judged here.
    pub(super) fn parse(text: &str) -> Result<Meta, MetaError> {
        let values = values(text);
        match number(&values, "flumen.format")? {
            FORMAT => Meta::read(&values),
            newer if newer > FORMAT => Err(MetaError::Newer(newer)),
            other => {
                let (key, expected) = ("flumen.format", "a format that ever was");
                Err(MetaError::Malformed { key, value: other.to_string(), expected })
            }
        }
    }

    /// Reads the text as Kafka has written it since 3.7, and demands since 4.0.
    pub(super) fn parse_kafka(text: &str) -> Result<Meta, MetaError> {
        let values = values(text);
        match number(&values, "version")? {
            1 => Meta::read(&values),
            other => {
                let (key, expected) = ("version", "1, which Kafka without ZooKeeper writes");
                Err(MetaError::Malformed { key, value: other.to_string(), expected })
            }
        }
    }

    fn read(values: &BTreeMap<&str, &str>) -> Result<Meta, MetaError> {
        let id = |key| {
            let text = *values.get(key).ok_or(MetaError::Missing(key))?;
            let expected = "an id of 22 characters in base64";
            from_base64(text).ok_or_else(|| MetaError::Malformed {
                key,
                value: text.into(),
                expected,
            })
        };
        Ok(Meta {
            node: number(values, "node.id")?,
            cluster: id("cluster.id")?,
            directory: id("directory.id")?,
        })
    }
}

fn values(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim())).collect()
}

fn number(values: &BTreeMap<&str, &str>, key: &'static str) -> Result<u32, MetaError> {
    let text = *values.get(key).ok_or(MetaError::Missing(key))?;
    let malformed = || MetaError::Malformed { key, value: text.into(), expected: "a number" };
    text.parse::<u32>().map_err(|_| malformed())
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version=1")?;
        writeln!(f, "node.id={}", self.node)?;
        writeln!(f, "cluster.id={}", to_base64(self.cluster))?;
        writeln!(f, "directory.id={}", to_base64(self.directory))?;
        writeln!(f, "flumen.format={FORMAT}")
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn to_base64(id: Uuid) -> String {
    let bits = id.as_u128();
    // 128 bits are 21 digits of six and one of two, which stands in the upper bits of its digit.
    let digit = |at: u32| match at {
        21 => (bits << 4) as usize & 0x3f,
        _ => (bits >> (122 - 6 * at)) as usize & 0x3f,
    };
    (0..22).map(|at| char::from(ALPHABET[digit(at)])).collect()
}

pub(super) fn from_base64(text: &str) -> Option<Uuid> {
    let mut bits = 0_u128;
    for (at, byte) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|known| *known == byte)? as u128;
        bits = match at {
            0..21 => bits << 6 | digit,
            21 if digit & 0xf == 0 => bits << 2 | digit >> 4,
            _ => return None,
        };
    }
    (text.len() == 22).then_some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version=1
node.id=3
cluster.id=AAECAwQFBgcICQoLDA0ODw
directory.id=_______________________w
flumen.format=1
";

    fn meta() -> Meta {
        let cluster = Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        Meta { node: 3, cluster, directory: Uuid::from_u128(u128::MAX) }
    }

    #[test]
    fn the_text_is_kafka_s() {
        let text = TEXT.replace("_______________________w", "_____________________w");
        assert_eq!(meta().to_string(), text);
        assert_eq!(Meta::parse(&text), Ok(meta()));
    }

    #[test]
    fn kafka_s_comments_order_and_spaces_are_read() {
        let text = meta().to_string();
        let mut lines: Vec<_> = text.lines().map(|line| line.replace('=', " = ")).collect();
        lines.reverse();
        lines.insert(0, "#\n#Tue Nov 24 03:20:00 UTC 2026".into());
        assert_eq!(Meta::parse(&lines.join("\n")), Ok(meta()));
    }

    #[test]
    fn a_newer_format_is_told_before_anything_else() {
        assert_eq!(Meta::parse("flumen.format=2\n"), Err(MetaError::Newer(2)));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert_eq!(Meta::parse("version=1\nnode.id=1"), Err(MetaError::Missing("flumen.format")));
        let text = meta().to_string().replace("node.id=3", "node.id=x");
        assert!(Meta::parse(&text).unwrap_err().to_string().contains("node.id=x"));
        // 23 characters.
        assert!(Meta::parse(TEXT).unwrap_err().to_string().contains("directory.id"));
    }

    #[test]
    fn every_id_comes_back_from_its_22_characters() {
        let mut rng = crate::rng::Rng::seeded(1);
        for id in (0..1000).map(|_| rng.uuid()) {
            assert_eq!(from_base64(&to_base64(id)), Some(id));
        }
        assert_eq!(from_base64("AAECAwQFBgcICQoLDA0OD"), None, "too short");
        assert_eq!(from_base64("AAECAwQFBgcICQoLDA0ODx"), None, "bits that no id has");
    }
}

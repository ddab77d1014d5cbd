//! What kinds of values settings take, and what fits them.

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Kind {
    /// A whole number of 64 bits, from `min` on.
    Long { min: i64 },
    /// A whole number of 32 bits.
    Int { min: i32, max: i32 },
    /// The same, or one beside them.
    IntOr { min: i32, max: i32, or: i32 },
    /// Some of these, joined by commas; perhaps none.
    Words(&'static [&'static str]),
    /// One of these.
    Word(&'static [&'static str]),
    /// A fraction from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Flag,
    /// `false`: a flag for what is not there.
    Off,
    /// `*`, or pairs of numbers with a colon, joined by commas; perhaps none.
    Replicas,
}

fn between(value: &str, min: i64, max: i64) -> Result<(), String> {
    let number: i64 = value.parse().map_err(|_| "a whole number is wanted".to_owned())?;
    match (min..=max).contains(&number) {
        true => Ok(()),
        false => Err(format!("a number from {min} to {max} is wanted")),
    }
}

/// The words of a list; none in an empty one.
pub(crate) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn is_replica(pair: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    pair.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker))
}

impl Kind {
    /// Whether `value` fits; if not, what would.
    pub(in crate::broker) fn check(self, value: &str) -> Result<(), String> {
        let fits = match self {
            Kind::Long { min } => return between(value, min, i64::MAX),
            Kind::Int { min, max } => return between(value, min.into(), max.into()),
            Kind::IntOr { min, max, or } if value != or.to_string() => {
                return between(value, min.into(), max.into())
                    .map_err(|expected| format!("{expected}, or {or}"));
            }
            Kind::IntOr { .. } => true,
            Kind::Ratio => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
            Kind::Flag => matches!(value, "true" | "false"),
            Kind::Off => value == "false",
            Kind::Word(known) => known.contains(&value),
            Kind::Words(known) => words(value).all(|word| known.contains(&word)),
            Kind::Replicas => value == "*" || words(value).all(is_replica),
        };
        match (fits, self) {
            (true, _) => Ok(()),
            (false, Kind::Word(known)) => Err(format!("one of {} is wanted", known.join(", "))),
            (false, Kind::Words(known)) => {
                Err(format!("one or several of {} are wanted", known.join(", ")))
            }
            (false, Kind::Replicas) => Err("`*` or partition:broker,… is wanted".to_owned()),
            (false, Kind::Flag) => Err("true or false is wanted".to_owned()),
            (false, Kind::Off) => Err("only false is possible".to_owned()),
            (false, _) => Err("a fraction from 0 to 1 is wanted".to_owned()),
        }
    }

    /// Kafka's number for it (`ConfigType`).
    pub(in crate::broker) fn type_number(self) -> i8 {
        match self {
            Kind::Flag | Kind::Off => 1,
            Kind::Word(_) => 2,
            Kind::Int { .. } | Kind::IntOr { .. } => 3,
            Kind::Long { .. } => 5,
            Kind::Ratio => 6,
            Kind::Words(_) | Kind::Replicas => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_what_fits_and_says_what_would() {
        let level = Kind::IntOr { min: 1, max: 9, or: -1 };
        let policy = Kind::Words(&["delete", "compact"]);
        for (kind, good, bad) in [
            (Kind::Long { min: -1 }, &["-1", "9223372036854775807"][..], &["-2", "x", ""][..]),
            (Kind::Int { min: 1, max: 17 }, &["1", "17"], &["0", "18", "2147483648"]),
            (level, &["-1", "1", "9"], &["0", "10", "-2"]),
            (policy, &["delete", "compact, delete", ""], &["shred", "delete,shred"]),
            (Kind::Word(&["a", "b"]), &["a"], &["", "a,b"]),
            (Kind::Ratio, &["0", "0.5", "1"], &["1.1", "-0.1", "NaN"]),
            (Kind::Flag, &["true", "false"], &["yes", ""]),
            (Kind::Off, &["false"], &["true", ""]),
            (Kind::Replicas, &["*", "", "0:1,1:1"], &["0", "a:b", "0:1,x"]),
        ] {
            good.iter().for_each(|value| assert_eq!(kind.check(value), Ok(()), "{kind:?} {value}"));
            bad.iter().for_each(|value| assert!(kind.check(value).is_err(), "{kind:?} {value}"));
        }
    }
}

//! A record as an object: what `flumen consume --format json` prints of it.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::lines::Line;

/// What is wanted, shown to whoever gave something else.
const SHAPE: &str = "a line is an object, all of whose fields may be left out: \
    `{\"key\":\"k\",\"value\":\"v\",\"headers\":[{\"name\":\"n\",\"value\":\"v\"}],\"partition\":0,\
    \"timestamp\":1700000000000}`, with `key_hex` and `value_hex` for bytes that are no text";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[expect(dead_code, reason = "where it comes from says nothing of where it goes")]
    topic: Option<serde::de::IgnoredAny>,
    #[expect(dead_code, reason = "its new offset is the log's to give")]
    offset: Option<serde::de::IgnoredAny>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_hex: Option<String>,
    #[serde(default)]
    headers: Vec<Named<Header>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: Option<String>,
    value_hex: Option<String>,
}

/// A `T` whose fields are named: of an array, a struct would take the elements for its fields.
struct Named<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_map(Fields(PhantomData)).map(Named)
    }
}

/// The record that `line` is.
pub(super) fn parse(line: &[u8]) -> Result<Line, String> {
    let parsed = serde_json::from_slice(line).map_err(|error| wrong(&error));
    let record = parsed.and_then(|Named(object)| record(object));
    record.map_err(|why| format!("{why}; {SHAPE}"))
}

/// What is wrong, and at which column: that it is all one line says nothing.
fn wrong(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = error.to_string();
    format!("{} (column {})", what.strip_suffix(&place).unwrap_or(&what), error.column())
}

fn record(object: Object) -> Result<Line, String> {
    let headers = object.headers.into_iter().map(|Named(header)| {
        let value = bytes(header.value, header.value_hex.as_deref())?;
        Ok::<_, String>((header.name, value))
    });
    Ok(Line {
        key: bytes(object.key, object.key_hex.as_deref())?,
        value: bytes(object.value, object.value_hex.as_deref())?,
        headers: headers.collect::<Result<_, _>>()?,
        partition: object.partition,
        timestamp: object.timestamp.filter(|time| *time >= 0),
        ..Line::default()
    })
}

fn bytes(text: Option<String>, hex: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    let Some(hex) = hex else { return Ok(text.map(String::into_bytes)) };
    let digits = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(digits).collect();
    let bytes = bytes.filter(|_| hex.len().is_multiple_of(2));
    bytes.map(Some).ok_or_else(|| format!("`{hex}` is no hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_all_of_a_record() {
        let text = br#"{"topic":"t","offset":9,"partition":2,"timestamp":5,"key":null,"value_hex":"ff00","headers":[{"name":"h","value":"v"}]}"#;
        let found = parse(text).unwrap();
        assert_eq!(found.value.as_deref(), Some(&[0xff, 0][..]));
        assert_eq!((found.partition, found.timestamp), (Some(2), Some(5)));
        assert_eq!(found.headers, [("h".to_owned(), Some(b"v".to_vec()))]);
        assert_eq!(found.key, None);
        assert_eq!(parse(b"{}").unwrap(), Line::default(), "all may be left out");
    }

    #[test]
    fn the_shape_that_is_shown_is_one_that_is_taken() {
        let shown = SHAPE.split('`').nth(1).unwrap();
        assert_eq!(parse(shown.as_bytes()).unwrap().value.as_deref(), Some(&b"v"[..]), "{shown}");
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_reason_and_what_is_wanted() {
        for (bad, why) in [
            ("", "EOF while parsing a value (column 0)"),
            ("{", "EOF while parsing an object (column 1)"),
            ("nonsense", "expected ident (column 2)"),
            (r#"{"walue":"v"}"#, "unknown field `walue`"),
            (r#"{"value":1}"#, "expected a string (column 10)"),
            (r#"{"value_hex":"f"}"#, "`f` is no hexadecimal"),
            (r#"{"value_hex":"zz"}"#, "`zz` is no hexadecimal"),
            (
                r#"[null,null,0,0,"k",null,"v",null,[]]"#,
                "invalid type: sequence, expected an object",
            ),
            (r#"{"headers":[["n","v",null]]}"#, "invalid type: sequence, expected an object"),
            (r#""text""#, "expected an object"),
        ] {
            let told = parse(bad.as_bytes()).unwrap_err();
            assert!(told.contains(why) && told.ends_with(SHAPE), "{bad}: {told}");
        }
    }
}

//! How a record is printed.

use std::io::{self, BufWriter, Stdout, Write};

use bytes::Bytes;
use flumen_runtime::batch::Record;
use serde_json::{Map, Value, json};

use super::super::{print::NONE, time};

/// What is printed of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// Its value.
    Value,
    /// Its key, a separator, its value.
    KeyValue,
    /// All of it, as an object.
    Json,
}

/// Something that there is to be said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Field {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Headers,
    Value,
}

/// How a record is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// These, with a separator between them.
    Fields(Vec<Field>),
    /// All of it, as an object.
    Object,
}

impl Shape {
    /// Whether there is anything between which a separator stands.
    pub(super) fn is_separated(&self) -> bool {
        matches!(self, Shape::Fields(fields) if fields.len() > 1)
    }
}

impl From<Form> for Shape {
    fn from(form: Form) -> Self {
        match form {
            Form::Value => Shape::Fields(vec![Field::Value]),
            Form::KeyValue => Shape::Fields(vec![Field::Key, Field::Value]),
            Form::Json => Shape::Object,
        }
    }
}

/// Prints records to `out`.
pub(super) struct Printer<W = BufWriter<Stdout>> {
    shape: Shape,
    separator: String,
    out: W,
}

impl Printer {
    /// To standard output.
    pub(super) fn new(shape: Shape, separator: &str) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { shape, separator: separator.to_owned(), out }
    }
}

impl<W: Write> Printer<W> {
    pub(super) fn print(&mut self, topic: &str, partition: i32, record: &Record) -> io::Result<()> {
        match &self.shape {
            Shape::Object => {
                serde_json::to_writer(&mut self.out, &object(topic, partition, record))?;
            }
            Shape::Fields(fields) => {
                for (at, field) in fields.iter().enumerate() {
                    if at > 0 {
                        self.out.write_all(self.separator.as_bytes())?;
                    }
                    put_field(&mut self.out, *field, topic, partition, record)?;
                }
            }
        }
        self.out.write_all(b"\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes as they are, and nothing where there are none.
fn put_field(
    out: &mut impl Write,
    field: Field,
    topic: &str,
    partition: i32,
    record: &Record,
) -> io::Result<()> {
    match field {
        Field::Topic => out.write_all(topic.as_bytes()),
        Field::Partition => write!(out, "{partition}"),
        Field::Offset => write!(out, "{}", record.offset.0),
        Field::Timestamp => {
            out.write_all(time::rfc3339(record.timestamp).as_deref().unwrap_or(NONE).as_bytes())
        }
        Field::Key => out.write_all(record.key.as_deref().unwrap_or_default()),
        Field::Value => out.write_all(record.value.as_deref().unwrap_or_default()),
        Field::Headers => {
            for (at, (name, value)) in record.headers().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                write!(out, "{comma}{name}=")?;
                out.write_all(value.as_deref().unwrap_or_default())?;
            }
            Ok(())
        }
    }
}

/// A record as an object. Bytes that are no text stand under another name, in hexadecimal.
fn object(topic: &str, partition: i32, record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(topic));
    object.insert("partition".into(), json!(partition));
    object.insert("offset".into(), json!(record.offset.0));
    object.insert("timestamp".into(), json!(record.timestamp));
    put(&mut object, "key", record.key.as_ref());
    put(&mut object, "value", record.value.as_ref());
    let headers = record.headers().map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".into(), json!(name));
        put(&mut header, "value", value.as_ref());
        Value::Object(header)
    });
    object.insert("headers".into(), headers.collect());
    Value::Object(object)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    let Some(bytes) = bytes else {
        object.insert(name.into(), Value::Null);
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), json!(text)),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), json!(hex))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_runtime::batch::{self, BatchBuilder, BatchHeader, RecordRef};

    fn record() -> Record {
        let mut builder = BatchBuilder::new(1_000);
        builder.push(RecordRef {
            timestamp: 1_000,
            key: Some(b"k"),
            value: Some(&[0xff, 0]),
            headers: &[("name", Some(b"v")), ("empty", None)],
        });
        let bytes = builder.build().freeze();
        let header = BatchHeader::parse(&bytes).unwrap();
        batch::records(&bytes, &header).unwrap().next().unwrap().unwrap()
    }

    fn printed(shape: Shape, separator: &str) -> Vec<u8> {
        let mut printer = Printer { shape, separator: separator.to_owned(), out: Vec::new() };
        printer.print("t", 3, &record()).unwrap();
        printer.out
    }

    #[test]
    fn what_is_asked_for_is_shown_in_that_order() {
        use Field::{Headers, Key, Offset, Partition, Timestamp, Topic, Value};
        let fields = vec![Topic, Partition, Offset, Timestamp, Key, Headers];
        let wanted = "t|3|0|1970-01-01T00:00:01Z|k|name=v,empty=\n";
        assert_eq!(printed(Shape::Fields(fields), "|"), wanted.as_bytes());
        assert_eq!(printed(Shape::Fields(vec![Value, Offset]), " "), b"\xff\0 0\n");
        assert_eq!(printed(Form::Value.into(), "|"), b"\xff\0\n");
        assert_eq!(printed(Form::KeyValue.into(), "|"), b"k|\xff\0\n");
    }

    #[test]
    fn all_of_a_record_is_in_its_object() {
        let wanted = json!({
            "topic": "t", "partition": 3, "offset": 0, "timestamp": 1000, "key": "k",
            "value_hex": "ff00",
            "headers": [{"name": "name", "value": "v"}, {"name": "empty", "value": null}],
        });
        assert_eq!(object("t", 3, &record()), wanted);
        let printed = printed(Form::Json.into(), "|");
        assert_eq!(serde_json::from_slice::<Value>(&printed).unwrap(), wanted);
    }
}

//! How a record is printed.

use std::io::{self, BufWriter, Stdout, Write};

use bytes::Bytes;
use flumen_runtime::batch::Record;
use serde_json::{Map, Value, json};

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

/// Prints records to standard output.
pub(super) struct Printer {
    form: Form,
    separator: String,
    topic: String,
    out: BufWriter<Stdout>,
}

impl Printer {
    pub(super) fn new(form: Form, separator: &str, topic: &str) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { form, separator: separator.to_owned(), topic: topic.to_owned(), out }
    }

    pub(super) fn print(&mut self, partition: i32, record: &Record) -> io::Result<()> {
        match self.form {
            Form::Json => {
                serde_json::to_writer(&mut self.out, &object(&self.topic, partition, record))?;
            }
            Form::KeyValue => {
                self.out.write_all(record.key.as_deref().unwrap_or_default())?;
                self.out.write_all(self.separator.as_bytes())?;
                self.out.write_all(record.value.as_deref().unwrap_or_default())?;
            }
            Form::Value => self.out.write_all(record.value.as_deref().unwrap_or_default())?,
        }
        self.out.write_all(b"\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

    #[test]
    fn all_of_a_record_is_in_its_object() {
        let mut builder = BatchBuilder::new(1_000);
        builder.push(RecordRef {
            timestamp: 1_000,
            key: Some(b"k"),
            value: Some(&[0xff, 0]),
            headers: &[("name", Some(b"v")), ("empty", None)],
        });
        let bytes = builder.build().freeze();
        let header = BatchHeader::parse(&bytes).unwrap();
        let record = batch::records(&bytes, &header).unwrap().next().unwrap().unwrap();
        let wanted = json!({
            "topic": "t", "partition": 3, "offset": 0, "timestamp": 1000, "key": "k",
            "value_hex": "ff00",
            "headers": [{"name": "name", "value": "v"}, {"name": "empty", "value": null}],
        });
        assert_eq!(object("t", 3, &record), wanted);
    }
}

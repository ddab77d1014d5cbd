//! Lines of standard input, read on a thread of their own: a terminal may be silent for hours.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    thread,
};

use tokio::sync::mpsc::{Receiver, channel};

use super::{super::CliError, object};

/// The longest line that is taken.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Lines that are handed over at once, and their bytes, at most.
const CHUNK_LINES: usize = 1_000;
const CHUNK_BYTES: u64 = 64 << 10;
/// How many chunks are read ahead.
const AHEAD: usize = 8;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Syntax {
    /// A value, with its key before a separator where one is given.
    Value,
    /// An object.
    Json,
}

/// A record, as a line says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    /// Bytes that it took.
    pub(super) read: u64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
}

/// Lines, and what was wrong with the one behind them.
pub(super) type Chunk = (Vec<Line>, Option<CliError>);

/// How lines are read.
pub(super) struct Lines {
    syntax: Syntax,
    separator: Option<Vec<u8>>,
    number: u64,
}

impl Lines {
    pub(super) fn new(syntax: Syntax, separator: Option<String>) -> Self {
        let separator = separator.map(String::into_bytes).filter(|text| !text.is_empty());
        Self { syntax, separator, number: 0 }
    }

    /// The record that the next line is.
    fn parse(&mut self, line: &[u8], read: u64) -> Result<Line, CliError> {
        self.number += 1;
        let found = match self.syntax {
            Syntax::Value => Ok(self.split(line)),
            Syntax::Json => object::parse(line),
        };
        let line = found.map_err(|why| {
            CliError::Unreadable(format!("line {} of standard input: {why}", self.number))
        })?;
        Ok(Line { number: self.number, read, ..line })
    }

    fn split(&self, line: &[u8]) -> Line {
        let at = self.separator.as_ref().and_then(|separator| {
            line.windows(separator.len()).position(|window| window == separator)
        });
        let length = self.separator.as_ref().map_or(0, Vec::len);
        let (key, value) = match at {
            Some(at) => (Some(line[..at].to_vec()), &line[at + length..]),
            None => (None, line),
        };
        Line { key, value: Some(value.to_vec()), ..Line::default() }
    }
}

/// Begins to read.
pub(super) fn read(mut lines: Lines) -> Receiver<Chunk> {
    let (sender, receiver) = channel(AHEAD);
    // It ends with the input, with the receiver, or with the process, whatever it waits for.
    thread::spawn(move || {
        let mut input = BufReader::with_capacity(64 << 10, io::stdin());
        loop {
            let (chunk, is_last) = next(&mut input, &mut lines);
            let is_wanted = sender.blocking_send(chunk).is_ok();
            if is_last || !is_wanted {
                return;
            }
        }
    });
    receiver
}

/// The lines that are there, and whether they are the last.
fn next(input: &mut BufReader<impl io::Read>, lines: &mut Lines) -> (Chunk, bool) {
    let (mut all, mut bytes) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = match input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return ((all, None), true),
            Ok(read) => read as u64,
            Err(error) => {
                let why = format!("cannot read standard input: {error}");
                return ((all, Some(CliError::Unreadable(why))), true);
            }
        };
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read == LINE_BYTES_MAX {
            let why = format!("line {} of standard input is longer than 64 MiB", lines.number + 1);
            return ((all, Some(CliError::Unreadable(why))), true);
        }
        match lines.parse(&line, read) {
            Ok(line) => all.push(line),
            Err(error) => return ((all, Some(error)), true),
        }
        bytes += read;
        // Nothing waits for lines that are still to be typed.
        if all.len() >= CHUNK_LINES || bytes >= CHUNK_BYTES || input.buffer().is_empty() {
            return ((all, None), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut lines: Lines, text: &[u8]) -> Chunk {
        let mut input = BufReader::new(text);
        let mut found = Vec::new();
        loop {
            let ((lines, error), is_last) = next(&mut input, &mut lines);
            found.extend(lines);
            if is_last {
                return (found, error);
            }
        }
    }

    #[test]
    fn a_line_is_a_value_and_what_stands_before_the_separator_its_key() {
        let lines = Lines::new(Syntax::Value, Some("::".into()));
        let (found, error) = all(lines, b"k::v::w\nno key\n\nlast");
        assert!(error.is_none());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let told = found.iter().map(|line| {
            let key = line.key.as_deref().map(text);
            (key, text(line.value.as_deref().unwrap()), line.read)
        });
        let wanted = [
            (Some("k".to_owned()), "v::w".to_owned(), 8),
            (None, "no key".to_owned(), 7),
            (None, String::new(), 1),
            (None, "last".to_owned(), 4),
        ];
        assert_eq!(told.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_line_that_is_no_record_is_named_and_those_before_it_are_kept() {
        let (found, error) = all(Lines::new(Syntax::Json, None), b"{\"value\":\"v\"}\n{\n");
        assert_eq!(found.len(), 1);
        let error = error.unwrap().to_string();
        assert!(error.starts_with("line 2 of standard input: "), "{error}");
    }
}

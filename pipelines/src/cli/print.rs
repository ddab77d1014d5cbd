//! What commands print: tables for people, one line of JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Rows under a heading, in columns as wide as what stands in them; numbers to the right.
#[derive(Clone, Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    indent: &'static str,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new(), indent: "" }
    }

    /// Moved in, below what it belongs to.
    #[must_use]
    pub fn indented(mut self) -> Self {
        self.indent = "  ";
        self
    }

    /// Adds a row: as many cells as there are columns.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.heading.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns: Vec<Column> = (0..self.heading.len()).map(|at| self.column(at)).collect();
        self.line(out, &columns, self.heading.iter().copied())?;
        self.rows
            .iter()
            .try_for_each(|row| self.line(out, &columns, row.iter().map(String::as_str)))
    }

    fn column(&self, at: usize) -> Column {
        let cells = || self.rows.iter().map(|row| row[at].as_str());
        let is_number = |cell: &str| cell == NONE || cell.parse::<f64>().is_ok();
        Column {
            width: cells().chain([self.heading[at]]).map(|cell| cell.chars().count()).max(),
            is_right: !self.rows.is_empty() && cells().all(is_number),
        }
    }

    fn line<'a>(
        &self,
        out: &mut impl Write,
        columns: &[Column],
        cells: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        let padded = cells.zip(columns).map(|(cell, column)| {
            let width = column.width.unwrap_or_default();
            if column.is_right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}{}", self.indent, line.trim_end())
    }
}

struct Column {
    width: Option<usize>,
    is_right: bool,
}

/// What stands in a cell about which nothing is known.
pub const NONE: &str = "-";

/// A number, where it is known.
#[must_use]
pub fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// So many of a thing, in words.
#[must_use]
pub fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Prints `value` as a line of JSON.
///
/// # Errors
/// Those of standard output.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["TOPIC", "RECORDS"]).indented();
        table.row(["a long name".into(), "7".into()]);
        table.row(["b".into(), NONE.into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        let wanted = "  TOPIC        RECORDS\n  a long name        7\n  b                  -\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}

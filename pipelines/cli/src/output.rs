//! Results on standard output, as text or JSON.
//!
//! The reader of the output decides nothing. A command does what was asked and returns the same
//! exit code whether its output was read to the end, to the tenth line (`| head`) or not at all.
//! Output that was lost for another reason, such as a full disk, is reported at the end.

use std::{
    io::{self, BufWriter, StdoutLock, Write},
    sync::OnceLock,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::OutputFormat;

/// Format in which a command prints its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) format: OutputFormat,
}

impl Output {
    pub(crate) fn is_json(self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints one result: a JSON line, or the text that `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let mut out = writer();
        if self.is_json() {
            serde_json::to_writer(&mut out, result).context("cannot print the result")?;
            out.write_all(b"\n").context("cannot print the result")?;
        } else {
            out.write_all(text(result).as_bytes())
                .context("cannot print the result")?;
        }
        out.flush().context("cannot print the result")
    }
}

/// Prints a text unchanged.
pub(crate) fn print_text(text: &str) -> Result<()> {
    let mut out = writer();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the result")
}

/// Returns a buffered writer to standard output; callers must flush it.
pub(crate) fn writer() -> BufWriter<Unhindered<StdoutLock<'static>>> {
    BufWriter::new(Unhindered {
        out: io::stdout().lock(),
        closed: &CLOSED,
    })
}

/// First error of writing to standard output, if there was one.
static CLOSED: OnceLock<io::Error> = OnceLock::new();

/// Returns true if everything printed from now on would be lost; a command with nothing else to do
/// may end.
pub(crate) fn is_closed() -> bool {
    CLOSED.get().is_some()
}

/// Returns the error for which output was lost, unless its reader closed the pipe.
pub(crate) fn lost() -> Option<&'static io::Error> {
    CLOSED
        .get()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// Writer whose failures never end a command: everything after the first failure is dropped.
pub(crate) struct Unhindered<W> {
    out: W,
    closed: &'static OnceLock<io::Error>,
}

impl<W: Write> Unhindered<W> {
    fn attempt<T>(
        &mut self,
        done: T,
        write: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.closed.get().is_some() {
            return Ok(done);
        }
        match write(&mut self.out) {
            // The caller retries.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let _the_first = self.closed.set(error);
                Ok(done)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for Unhindered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt((), W::flush)
    }
}

/// Formats lines of `name value`, with the values in one column.
pub(crate) fn columns<'a>(lines: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let lines: Vec<_> = lines.into_iter().collect();
    let width = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    lines.iter().fold(String::new(), |text, (name, value)| {
        text + &format!("{name:width$}  {value}\n")
    })
}

/// Formats counts by reason behind their sum, such as ` (timeout 2, died 1)`; empty without any.
pub(crate) fn reasons<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let counts = counts.into_iter();
    let counts: Vec<_> = counts
        .map(|(why, count)| format!("{why} {count}"))
        .collect();
    if counts.is_empty() {
        return String::new();
    }
    format!(" ({})", counts.join(", "))
}

/// Formats a table: a head, then rows. Columns of numbers are aligned to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let column = |i: usize| rows.iter().filter_map(move |row| row.get(i));
    let shape: Vec<_> = (0..head.len())
        .map(|i| {
            let widest = column(i)
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0);
            let numeric =
                column(i).all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'));
            (widest.max(head[i].chars().count()), numeric)
        })
        .collect();
    let line = |row: Vec<&str>| {
        let cell = |(cell, (width, numeric)): (&&str, &(usize, bool))| {
            if *numeric {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        };
        let cells: Vec<_> = row.iter().zip(&shape).map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let rows = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    line(head.to_vec()) + &rows.collect::<String>()
}

/// `768 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit < UNITS.len() - 1 {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_enough_ends_nothing_and_the_rest_is_dropped() {
        struct Full(Vec<u8>);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    self.0.extend_from_slice(bytes);
                    return Ok(bytes.len());
                }
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        static CLOSED: OnceLock<io::Error> = OnceLock::new();
        let mut out = Unhindered {
            out: Full(Vec::new()),
            closed: &CLOSED,
        };
        for line in [b"first\n", b"again\n", b"third\n"] {
            out.write_all(line).expect("never an error");
        }
        out.flush().expect("never an error");
        assert_eq!(out.out.0, b"first\n");
        let kind = CLOSED.get().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn columns_and_tables_line_up() {
        let text = columns([("a", "1".to_owned()), ("long", "2".to_owned())]);
        assert_eq!(text, "a     1\nlong  2\n");
        let rows = vec![
            vec!["topic".to_owned(), "7".to_owned()],
            vec!["t".to_owned(), "12".to_owned()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows),
            "name    n\ntopic   7\nt      12\n"
        );
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(bytes(768), "768 B");
        assert_eq!(bytes(3 << 19), "1.5 MiB");
        assert_eq!(vintage_human::grouped(1_234_567), "1,234,567");
        assert_eq!(vintage_human::grouped(12), "12");
    }
}

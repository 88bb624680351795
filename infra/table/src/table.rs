use std::io::{self, BufRead as _, BufReader, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use crate::{hashed::Hashed, parquet::Rows};

/// Marks at the beginning of a file, by which the forms are told apart.
const PARQUET: &[u8] = b"PAR1";
const ENCRYPTED_PARQUET: &[u8] = b"PARE";
const GZIP: &[u8] = b"\x1f\x8b";

type File<'a> = BufReader<Hashed<Box<dyn Read + 'a>>>;

/// File that gives its rows one after the other.
pub struct Table<'a> {
    form: Form<'a>,
}

enum Form<'a> {
    Lines(File<'a>),
    Gzip(Box<BufReader<MultiGzDecoder<File<'a>>>>),
    Parquet {
        rows: Box<Rows>,
        sha256: vintage_control::Sha256,
    },
}

impl<'a> Table<'a> {
    /// Opens a file. Of a Parquet file only those columns are read that `is_read` returns true for; the
    /// others have the value null in every row.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or has binary data in a column that is read.
    pub fn of(reader: impl Read + 'a, is_read: &dyn Fn(&str) -> bool) -> io::Result<Self> {
        let reader: Box<dyn Read + 'a> = Box::new(reader);
        let mut file = BufReader::new(Hashed::new(reader));
        let begin = file.fill_buf()?;
        let form = if begin.starts_with(PARQUET) {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let sha256 = file.into_inner().finish()?;
            let rows = Rows::of(Bytes::from(bytes), is_read)?;
            Form::Parquet {
                rows: Box::new(rows),
                sha256,
            }
        } else if begin.starts_with(ENCRYPTED_PARQUET) {
            return Err(damaged("it is an encrypted Parquet file; write it without"));
        } else if begin.starts_with(GZIP) {
            Form::Gzip(Box::new(BufReader::new(MultiGzDecoder::new(file))))
        } else {
            Form::Lines(file)
        };
        Ok(Self { form })
    }

    /// First bytes of the text, for callers that know more forms by them.
    pub fn begin(&mut self) -> io::Result<&[u8]> {
        match &mut self.form {
            Form::Lines(file) => file.fill_buf(),
            Form::Gzip(file) => file.fill_buf().map_err(ended),
            Form::Parquet { .. } => Ok(&[]),
        }
    }

    /// Puts the next row into `row`, instead of what it holds; returns false at the end.
    pub fn next(&mut self, row: &mut Vec<u8>) -> io::Result<bool> {
        row.clear();
        match &mut self.form {
            Form::Lines(file) => Ok(file.read_until(b'\n', row)? > 0),
            Form::Gzip(file) => Ok(file.read_until(b'\n', row).map_err(ended)? > 0),
            Form::Parquet { rows, .. } => rows.next(row),
        }
    }

    /// Returns the SHA-256 of the file's bytes, as they are on the disk.
    pub fn sha256(self) -> io::Result<vintage_control::Sha256> {
        match self.form {
            Form::Lines(file) => file.into_inner().finish(),
            Form::Gzip(file) => file.into_inner().into_inner().into_inner().finish(),
            Form::Parquet { sha256, .. } => Ok(sha256),
        }
    }
}

/// Error of a file whose content cannot be used.
pub(crate) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Says what is wrong with gzip's data.
fn ended(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            damaged("its gzip data end early, so it was not fetched or written whole; get it again")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => damaged(format!(
            "its gzip data are damaged ({error}); get the file again"
        )),
        _ => error,
    }
}

#[cfg(test)]
mod tests;

//! Checksums of an archive file's bytes, stored between its body and its Parquet footer.
//!
//! The Parquet writer in use writes no page checksums, and those would leave the footer
//! unprotected. Parquet finds its footer from the end of the file and everything else from the
//! footer, so bytes in between are invisible to every reader:
//!
//! ```text
//! row group 0 | … | row group n-1 | page indexes | SEAL | footer | footer length | "PAR1"
//! ```
//!
//! The seal holds a CRC-32C of each row group, of the indexes, of everything after the seal, and of
//! itself. CRC-32C finds every change of a single byte. A file that another program rewrote has no
//! seal; the digests in plans verify that its values are the ones trained on.

use std::ops::Range;

const MAGIC: &[u8; 8] = b"VTGSEAL1";
/// Bytes of magic, count and the seal's own checksum.
const FRAME: usize = 8 + 4 + 4;
/// Bytes of footer length and `PAR1`.
pub(crate) const TAIL: usize = 8;

/// Checksums that the seal holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// CRC-32C of each row group, then of the page indexes after the last.
    pub(crate) segments: Vec<u32>,
    footer: u32,
}

impl Seal {
    /// Checks the bytes between the seal and the end of the file.
    pub(crate) fn check_footer(&self, footer: &[u8]) -> Result<(), String> {
        matches(self.footer, footer, "its footer")
    }

    /// Checks the bytes of segment `index`: a row group, or the page indexes.
    pub(crate) fn check_segment(&self, index: usize, bytes: &[u8]) -> Result<(), String> {
        match self.segments.get(index) {
            Some(crc) => matches(*crc, bytes, &format!("its row group {index}")),
            None => Err(format!("it has a row group {index} that is not sealed")),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FRAME + 4 * (self.segments.len() + 1));
        for crc in self.segments.iter().chain([&self.footer]) {
            out.extend_from_slice(&crc.to_le_bytes());
        }
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        let own = crc32c::crc32c(&out);
        out.extend_from_slice(&own.to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }

    /// Reads the seal that ends where `before_footer` does; `Ok(None)` if there is none.
    pub(crate) fn decode(before_footer: &[u8]) -> Result<Option<Self>, String> {
        let Some(rest) = before_footer.strip_suffix(MAGIC) else {
            return Ok(None);
        };
        let broken = || "its seal is damaged".to_owned();
        let number = |at: usize| {
            let bytes = rest.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let end = rest.len().checked_sub(8).ok_or_else(broken)?;
        let (count, own) = (
            number(end).ok_or_else(broken)?,
            number(end + 4).ok_or_else(broken)?,
        );
        let start = (count as usize)
            .checked_add(1)
            .and_then(|numbers| end.checked_sub(numbers.checked_mul(4)?))
            .ok_or_else(broken)?;
        if crc32c::crc32c(&rest[start..end + 4]) != own {
            return Err(broken());
        }
        let numbers: Option<Vec<u32>> = (start..end).step_by(4).map(number).collect();
        let mut segments = numbers.ok_or_else(broken)?;
        let footer = segments.pop().ok_or_else(broken)?;
        Ok(Some(Self { segments, footer }))
    }

    /// Returns the length in bytes of a seal of `row_groups` row groups.
    pub(crate) fn len(row_groups: usize) -> usize {
        FRAME + 4 * (row_groups + 2)
    }
}

fn matches(expected: u32, bytes: &[u8], what: &str) -> Result<(), String> {
    let found = crc32c::crc32c(bytes);
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "the CRC-32C of {what} is {found:08x}, and {expected:08x} was written"
        ))
    }
}

/// Inserts the seal into the bytes of a whole Parquet file, whose row groups end at `ends`.
pub(crate) fn seal(file: &mut Vec<u8>, ends: &[usize]) -> Result<(), String> {
    let body = body_len(file)?;
    let starts = [0].into_iter().chain(ends.iter().copied());
    let stops = ends.iter().copied().chain([body]);
    let segment = |range: Range<usize>| file.get(range).map(crc32c::crc32c);
    let segments: Option<Vec<u32>> = starts.zip(stops).map(|(a, b)| segment(a..b)).collect();
    let segments = segments.ok_or("its row groups do not follow one another")?;
    let seal = Seal {
        segments,
        footer: crc32c::crc32c(&file[body..]),
    };
    file.splice(body..body, seal.encode());
    Ok(())
}

fn body_len(file: &[u8]) -> Result<usize, String> {
    let tail = file
        .len()
        .checked_sub(TAIL)
        .ok_or("it is too short for a Parquet file")?;
    let footer = footer_len(&file[tail..])?;
    tail.checked_sub(footer)
        .ok_or_else(|| "its footer is longer than the file".to_owned())
}

/// Reads the length of the Parquet footer from the last [`TAIL`] bytes of a file.
pub(crate) fn footer_len(tail: &[u8]) -> Result<usize, String> {
    match tail {
        [a, b, c, d, b'P', b'A', b'R', b'1'] => Ok(u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => Err("it does not end as a Parquet file does".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a sealed file: two row groups of 10 and 20 bytes, 5 bytes of index and a footer of
    /// 7.
    fn sealed() -> Vec<u8> {
        let mut file: Vec<u8> = (0..42).collect();
        file.extend_from_slice(&7_u32.to_le_bytes());
        file.extend_from_slice(b"PAR1");
        seal(&mut file, &[10, 30]).unwrap();
        file
    }

    fn check(file: &[u8]) -> Result<(), String> {
        let body = body_len(file)?;
        let seal = Seal::decode(&file[..body])?.ok_or("no seal")?;
        seal.check_footer(&file[body..])?;
        let end = body - Seal::len(seal.segments.len() - 1);
        for (index, range) in [0..10, 10..30, 30..end].into_iter().enumerate() {
            seal.check_segment(index, &file[range])?;
        }
        Ok(())
    }

    #[test]
    fn a_sealed_file_checks_and_any_changed_byte_is_found() {
        let file = sealed();
        assert_eq!(file.len(), 50 + Seal::len(2));
        check(&file).unwrap();
        for at in 0..file.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] ^= flip;
                assert!(check(&damaged).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_seal_or_an_error() {
        assert_eq!(Seal::decode(b"").unwrap(), None);
        assert_eq!(Seal::decode(b"no seal at all").unwrap(), None);
        let mut huge = u32::MAX.to_le_bytes().to_vec();
        huge.extend_from_slice(&[0; 4]);
        huge.extend_from_slice(MAGIC);
        assert!(Seal::decode(&huge).is_err());
        assert!(Seal::decode(MAGIC).is_err());
    }
}

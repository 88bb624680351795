//! Encoding of a stretch of values: which changed, and by how much.
//!
//! The difference of two values is that of their bit patterns as whole numbers, folded so that
//! small ones of either sign are small: 0, −1, 1, −2 become 0, 1, 2, 3. For values of one sign it
//! counts the representable numbers between them. The bytes of the differences are stored by
//! significance, because the upper ones are mostly 0, and each such plane is compressed alone.
//!
//! A piece begins with its kind: 0 nothing changed; 1 few did: their number, the gaps between them
//! as varints (seven bits a byte, least first), then the planes of their differences; 2 many did:
//! the planes of all differences. Numbers are u32, little-endian; a compressed part is its length
//! and a Zstandard frame.

use crate::error::{Error, Result};

/// Most values in one piece. Pieces are encoded in parallel.
pub const PIECE: usize = 1 << 20;

/// Level of Zstandard. Levels 3 and 9 take more time and give within 3 % of the same bytes.
const LEVEL: i32 = 1;

const SAME: u8 = 0;
const FEW: u8 = 1;
const MANY: u8 = 2;

/// Width of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Two bytes: bf16 and f16.
    Two,
    /// Four bytes: f32.
    Four,
}

impl Width {
    /// Number of bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// Returns the encoding of the change from `old` to `new`, which are equally long and at most
/// [`PIECE`] values.
pub fn encode(width: Width, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    if old == new {
        return Ok(vec![SAME]);
    }
    let differences = differences(width, old, new);
    let changed = differences.iter().filter(|by| **by != 0).count();
    // From one change in two on, the zeros of a plane cost no more than the gaps.
    if changed > differences.len() / 2 {
        let mut piece = vec![MANY];
        write_planes(&mut piece, width, &differences.iter().copied())?;
        return Ok(piece);
    }
    let mut gaps = Vec::with_capacity(2 * changed);
    let mut last = 0;
    for (at, by) in differences.iter().enumerate() {
        if *by != 0 {
            write_varint(&mut gaps, at - last);
            last = at + 1;
        }
    }
    let mut piece = vec![FEW];
    piece.extend((changed as u32).to_le_bytes());
    write_part(&mut piece, &gaps)?;
    let changes = differences.into_iter().filter(|by| *by != 0);
    write_planes(&mut piece, width, &changes)?;
    Ok(piece)
}

/// Applies a piece to the values that it was made from, and returns the rest of `from`.
///
/// # Errors
/// The piece is cut off, or says something about values that are not there. `values` may have
/// changed in part.
pub fn decode<'a>(width: Width, values: &mut [u8], from: &'a [u8]) -> Result<&'a [u8]> {
    let mut rest = from;
    let count = values.len() / width.bytes();
    match take(&mut rest, 1)?[0] {
        SAME => {}
        FEW => {
            let changed = take_number(&mut rest)?;
            if changed > count {
                return Err(Error::damaged("a piece changes more values than there are"));
            }
            // A gap is below 2^20, so it has at most three bytes.
            let gaps = take_part(&mut rest, 3 * changed)?;
            let differences = take_planes(&mut rest, width, changed)?;
            let mut gaps = &gaps[..];
            let mut at = 0;
            for by in differences {
                at += take_varint(&mut gaps)?;
                if at >= count {
                    return Err(Error::damaged("a changed value lies behind its piece"));
                }
                add(width, values, at, by);
                at += 1;
            }
            if !gaps.is_empty() {
                return Err(Error::damaged("more gaps than changes"));
            }
        }
        MANY => {
            let differences = take_planes(&mut rest, width, count)?;
            for (at, by) in differences.into_iter().enumerate() {
                add(width, values, at, by);
            }
        }
        kind => return Err(Error::damaged(format!("there is no piece of kind {kind}"))),
    }
    Ok(rest)
}

fn differences(width: Width, old: &[u8], new: &[u8]) -> Vec<u32> {
    match width {
        Width::Two => {
            let pairs = old.as_chunks::<2>().0.iter().zip(new.as_chunks::<2>().0);
            let by = pairs.map(|(old, new)| {
                let by = u16::from_le_bytes(*new).wrapping_sub(u16::from_le_bytes(*old)) as i16;
                u32::from(((by << 1) ^ (by >> 15)) as u16)
            });
            by.collect()
        }
        Width::Four => {
            let pairs = old.as_chunks::<4>().0.iter().zip(new.as_chunks::<4>().0);
            let by = pairs.map(|(old, new)| {
                let by = u32::from_le_bytes(*new).wrapping_sub(u32::from_le_bytes(*old)) as i32;
                ((by << 1) ^ (by >> 31)) as u32
            });
            by.collect()
        }
    }
}

/// Adds an unfolded difference to the value at `at`.
fn add(width: Width, values: &mut [u8], at: usize, by: u32) {
    let by = (by >> 1) ^ (by & 1).wrapping_neg();
    match width {
        Width::Two => {
            let value = &mut values.as_chunks_mut::<2>().0[at];
            *value = u16::from_le_bytes(*value)
                .wrapping_add(by as u16)
                .to_le_bytes();
        }
        Width::Four => {
            let value = &mut values.as_chunks_mut::<4>().0[at];
            *value = u32::from_le_bytes(*value).wrapping_add(by).to_le_bytes();
        }
    }
}

fn write_planes(
    into: &mut Vec<u8>,
    width: Width,
    differences: &(impl Iterator<Item = u32> + Clone),
) -> Result<()> {
    for plane in 0..width.bytes() {
        let bytes: Vec<u8> = differences
            .clone()
            .map(|by| (by >> (8 * plane)) as u8)
            .collect();
        write_part(into, &bytes)?;
    }
    Ok(())
}

fn take_planes(from: &mut &[u8], width: Width, count: usize) -> Result<Vec<u32>> {
    let mut differences = vec![0; count];
    for plane in 0..width.bytes() {
        let bytes = take_part(from, count)?;
        if bytes.len() != count {
            return Err(Error::damaged("a plane is shorter than its piece"));
        }
        for (by, byte) in differences.iter_mut().zip(bytes) {
            *by |= u32::from(byte) << (8 * plane);
        }
    }
    Ok(differences)
}

fn write_part(into: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let frame = zstd::bulk::compress(bytes, LEVEL).map_err(|error| Error::Compress {
        reason: error.to_string(),
    })?;
    into.extend((frame.len() as u32).to_le_bytes());
    into.extend(frame);
    Ok(())
}

/// Takes a compressed part, which holds at most `most` bytes.
fn take_part(from: &mut &[u8], most: usize) -> Result<Vec<u8>> {
    let length = take_number(from)?;
    let frame = take(from, length)?;
    zstd::bulk::decompress(frame, most).map_err(|error| Error::damaged(error.to_string()))
}

fn take_number(from: &mut &[u8]) -> Result<usize> {
    let bytes = take(from, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

pub(crate) fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = from
        .split_at_checked(length)
        .ok_or_else(|| Error::damaged("it ends too early"))?;
    *from = rest;
    Ok(taken)
}

fn write_varint(into: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn take_varint(from: &mut &[u8]) -> Result<usize> {
    let mut number = 0;
    for place in 0..3 {
        let byte = take(from, 1)?[0];
        number |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Error::damaged("a gap is longer than a piece"))
}

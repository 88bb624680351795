//! File of a delta: a magic number, the length of a header, the header as JSON, and the pieces of
//! every tensor in the order of the weights' file.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vintage_control::Sha256;

use crate::{
    error::{Error, Result},
    layout::{Layout, Place},
    piece::{self, PIECE, take},
};

const MAGIC: &[u8; 8] = b"VTDELTA1";
/// Longest header that is read: a tensor takes about 100 bytes of it.
const LONGEST_HEADER: u64 = 64 << 20;

/// Digests of the two files that a delta lies between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// SHA-256 of the base.
    pub base_sha256: Sha256,
    /// SHA-256 of the weights that the delta gives.
    pub weights_sha256: Sha256,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    base_sha256: Sha256,
    weights_sha256: Sha256,
    /// Length of the weights, of the base as of the new ones.
    weights_bytes: u64,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    name: String,
    /// CRC-32C of the tensor's new bytes.
    crc32c: u32,
    /// Length of each of its pieces.
    pieces: Vec<u32>,
}

/// Returns the delta that turns `base` into `new`, two safetensors files with the digests `ends`;
/// `None` if their tensors differ in name, shape or type, or are of a type that no delta is made of.
///
/// # Errors
/// One of the two is no safetensors file.
pub fn encode(base: &[u8], new: &[u8], ends: Ends) -> Result<Option<Vec<u8>>> {
    let layout = Layout::read(new)?;
    let Some(places) = &layout.places else {
        return Ok(None);
    };
    if base.len() != new.len() || base[..layout.header] != new[..layout.header] {
        return Ok(None);
    }
    let pieces: Vec<_> = places.iter().flat_map(pieces).collect();
    let pieces = pieces.into_par_iter().map(|(width, bytes)| {
        let (old, new) = (&base[bytes.clone()], &new[bytes]);
        piece::encode(width, old, new)
    });
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    let sums: Vec<u32> = places
        .par_iter()
        .map(|place| crc32c::crc32c(&new[place.bytes.clone()]))
        .collect();
    let mut lengths = pieces.iter().map(|piece| piece.len() as u32);
    let tensors = places.iter().zip(sums).map(|(place, crc32c)| Tensor {
        name: place.name.clone(),
        crc32c,
        pieces: lengths.by_ref().take(count(place)).collect(),
    });
    let header = Header {
        base_sha256: ends.base_sha256,
        weights_sha256: ends.weights_sha256,
        weights_bytes: new.len() as u64,
        tensors: tensors.collect(),
    };
    let header = serde_json::to_vec(&header).map_err(|error| Error::Compress {
        reason: error.to_string(),
    })?;
    let length: usize = pieces.iter().map(Vec::len).sum();
    let mut delta = Vec::with_capacity(MAGIC.len() + 8 + header.len() + length);
    delta.extend(MAGIC);
    delta.extend((header.len() as u64).to_le_bytes());
    delta.extend(header);
    for piece in pieces {
        delta.extend(piece);
    }
    Ok(Some(delta))
}

/// Turns the bytes of the base into those of the weights that `delta` leads to.
///
/// Every tensor's checksum is compared. The digest of the whole is the caller's to compare: it is
/// what names a version.
///
/// # Errors
/// The delta has other ends, is of other tensors or is damaged. `bytes` are useless then.
pub fn apply(bytes: &mut [u8], delta: &[u8], ends: Ends) -> Result<()> {
    let (header, mut rest) = open(delta)?;
    if header.base_sha256 != ends.base_sha256 || header.weights_sha256 != ends.weights_sha256 {
        return Err(Error::OtherEnds {
            base: header.base_sha256,
            weights: header.weights_sha256,
            asked_base: ends.base_sha256,
            asked_weights: ends.weights_sha256,
        });
    }
    let layout = Layout::read(bytes)?;
    let places = fitting(&header, layout.places.as_deref(), bytes.len())?;
    let (_, mut left) = bytes.split_at_mut(layout.header);
    let mut work = Vec::new();
    for (place, tensor) in places.iter().zip(&header.tensors) {
        for ((width, range), length) in pieces(place).zip(&tensor.pieces) {
            let piece = take(&mut rest, *length as usize)?;
            let (values, behind) = left.split_at_mut(range.len());
            left = behind;
            work.push((width, values, piece));
        }
    }
    if !rest.is_empty() {
        return Err(Error::damaged("bytes follow its last piece"));
    }
    work.into_par_iter()
        .try_for_each(|(width, values, piece)| {
            let rest = piece::decode(width, values, piece)?;
            if rest.is_empty() {
                Ok(())
            } else {
                Err(Error::damaged("bytes follow a piece"))
            }
        })?;
    let bytes = &*bytes;
    let wrong = places
        .par_iter()
        .zip(&header.tensors)
        .find_first(|(place, tensor)| crc32c::crc32c(&bytes[place.bytes.clone()]) != tensor.crc32c);
    match wrong {
        Some((_, tensor)) => Err(Error::Tensor {
            name: tensor.name.clone(),
        }),
        None => Ok(()),
    }
}

fn open(delta: &[u8]) -> Result<(Header, &[u8])> {
    let mut rest = delta;
    if take(&mut rest, MAGIC.len())? != MAGIC {
        return Err(Error::damaged("it does not begin as a delta does"));
    }
    let length = take(&mut rest, 8)?;
    let length = length
        .iter()
        .rev()
        .fold(0, |sum, byte| u64::wrapping_shl(sum, 8) | u64::from(*byte));
    if length > LONGEST_HEADER {
        return Err(Error::damaged("its header is too long"));
    }
    let header = take(&mut rest, length as usize)?;
    let header = serde_json::from_slice(header)
        .map_err(|error| Error::damaged(format!("its header: {error}")))?;
    Ok((header, rest))
}

/// Compares the tensors of the base with those of a delta.
fn fitting<'a>(header: &Header, places: Option<&'a [Place]>, length: usize) -> Result<&'a [Place]> {
    let other = |reason: String| Error::OtherLayout { reason };
    let places = places.ok_or_else(|| other("its values are of another type".to_owned()))?;
    if header.weights_bytes != length as u64 || header.tensors.len() != places.len() {
        return Err(other(format!(
            "{length} bytes and {} tensors instead of {} and {}",
            places.len(),
            header.weights_bytes,
            header.tensors.len()
        )));
    }
    for (place, tensor) in places.iter().zip(&header.tensors) {
        if place.name != tensor.name || count(place) != tensor.pieces.len() {
            return Err(other(format!(
                "{} instead of {}, or of another size",
                place.name, tensor.name
            )));
        }
    }
    Ok(places)
}

/// Number of pieces of a tensor.
fn count(place: &Place) -> usize {
    place.bytes.len().div_ceil(PIECE * place.width.bytes())
}

/// Returns the places of a tensor's pieces.
fn pieces(place: &Place) -> impl Iterator<Item = (piece::Width, std::ops::Range<usize>)> + use<> {
    let (width, end) = (place.width, place.bytes.end);
    let step = PIECE * width.bytes();
    let starts = place.bytes.clone().step_by(step);
    starts.map(move |start| (width, start..(start + step).min(end)))
}

#[cfg(test)]
mod tests;

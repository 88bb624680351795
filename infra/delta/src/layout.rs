//! Places of the tensors in a safetensors file.

use std::ops::Range;

use safetensors::{Dtype, SafeTensors};

use crate::{
    error::{Error, Result},
    piece::Width,
};

/// Tensor of a file: its name, the width of its values, and the bytes that hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) width: Width,
    pub(crate) bytes: Range<usize>,
}

/// Places of all tensors, in the order of the file. `None` if some values are of a type that no
/// delta is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Length of the part before the first tensor.
    pub(crate) header: usize,
    pub(crate) places: Option<Vec<Place>>,
}

impl Layout {
    /// Reads the header of a file. The tensors follow each other without a gap, to the file's end.
    pub(crate) fn read(file: &[u8]) -> Result<Self> {
        let refuse = |reason: String| Error::Weights { reason };
        let (length, metadata) =
            SafeTensors::read_metadata(file).map_err(|error| refuse(error.to_string()))?;
        let header = length
            .checked_add(8)
            .filter(|header| *header <= file.len())
            .ok_or_else(|| refuse("its header is longer than the file".to_owned()))?;
        let mut at = header;
        let mut places = Some(Vec::new());
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else {
                continue;
            };
            let (from, until) = info.data_offsets;
            let bytes = header.saturating_add(from)..header.saturating_add(until);
            if bytes.start != at || bytes.end < at || bytes.end > file.len() {
                return Err(refuse(format!("tensor {name} is not where it should be")));
            }
            at = bytes.end;
            let width = match info.dtype {
                Dtype::F32 => Some(Width::Four),
                Dtype::BF16 | Dtype::F16 => Some(Width::Two),
                _ => None,
            };
            match (width, &mut places) {
                (Some(width), Some(places)) => places.push(Place { name, width, bytes }),
                _ => places = None,
            }
        }
        if at != file.len() {
            return Err(refuse("bytes follow the last tensor".to_owned()));
        }
        Ok(Self { header, places })
    }
}

//! Detection of weights files that are not safetensors, or are incomplete.

use safetensors::SafeTensors;

use crate::error::{Error, Result};

/// Opens a safetensors file; the error says which other format it has.
pub(super) fn open<'a>(file: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|error| Error::Weights {
        file: file.to_owned(),
        problem: instead(bytes).unwrap_or_else(|| error.to_string()),
    })
}

fn instead(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some("the file is empty".to_owned());
    }
    let formats: [(&[u8], &str); 6] = [
        (
            b"version https://git-lfs",
            "a Git LFS pointer, which `git lfs pull` replaces",
        ),
        (b"GGUF", "a GGUF file of llama.cpp's"),
        (
            b"PK\x03\x04",
            "an archive of PyTorch's, no safetensors file",
        ),
        (b"\x80\x02", "a pickle of PyTorch's, no safetensors file"),
        (
            b"<",
            "a web page or XML, as a server answers that does not have the file",
        ),
        (b"\x1f\x8b", "compressed: unpack it"),
    ];
    let found = formats.iter().find(|(magic, _)| bytes.starts_with(magic));
    if let Some((_, what)) = found {
        return Some(format!("it is {what}"));
    }
    let (length, rest) = bytes.split_at_checked(8)?;
    let length = u64::from_le_bytes(length.try_into().ok()?);
    if length > rest.len() as u64 {
        // A length beyond any header means damage, not truncation.
        return (length < 100_000_000).then(|| {
            format!(
                "it is cut off in its header: {} bytes, of at least {}",
                bytes.len(),
                length + 8
            )
        });
    }
    let header = rest.get(..usize::try_from(length).ok()?)?;
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    let tensors = header.as_object()?.values();
    let ends = tensors.filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let whole = ends.max()?.checked_add(length)?.checked_add(8)?;
    (whole > bytes.len() as u64).then(|| format!("it is cut off: {} bytes of {whole}", bytes.len()))
}

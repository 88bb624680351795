use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    ipc::{MetadataVersion, RecordBatch as BatchHeader, reader::RecordBatchDecoder},
};
use bytes::Bytes;

use crate::{
    error::Error,
    frame::{self, Frame, Next},
    template::TEMPLATE,
    version::SchemaVersion,
    wire_schema,
};

/// Runs `read` and turns a panic into an error. No input is known to cause a panic: [`decode`]
/// checks beforehand everything that the Arrow library asserts.
pub(crate) fn guard<T>(bytes: usize, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // Unwind-safe: nothing that `read` touches is used afterwards except its result.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::Panicked {
            bytes,
            reason: reason.to_owned(),
        })
    })
}

/// Decodes a message into a batch of the newest schema, whose columns lie in what `hold` makes of
/// the message's body: the same bytes at an address that 8 divides. Allocates nothing by lengths that
/// the message claims.
pub(crate) fn decode(
    payload: &[u8],
    hold: impl FnOnce(&[u8]) -> Buffer,
) -> Result<RecordBatch, Error> {
    let refuse = |reason: String| Error::Stream {
        bytes: payload.len(),
        reason,
    };
    let (version, rest) = read_schema(payload, &refuse)?;
    let frame = match frame::read(rest).map_err(refuse)? {
        Next::Frame(frame) => frame,
        Next::End(_) => return Err(refuse("it has no record batch".to_owned())),
    };
    let Some(header) = frame.message.header_as_record_batch() else {
        let kind = frame
            .message
            .header_type()
            .variant_name()
            .unwrap_or("unknown");
        return Err(refuse(format!(
            "its second message is a {kind}, not a RecordBatch"
        )));
    };
    check_batch(&frame, header).map_err(refuse)?;
    match frame::read(frame.rest).map_err(refuse)? {
        Next::End([]) => {}
        Next::End(rest) => {
            return Err(refuse(format!(
                "{} bytes follow its end-of-stream",
                rest.len()
            )));
        }
        Next::Frame(_) => return Err(refuse("it has more than one record batch".to_owned())),
    }
    let body = hold(frame.body);
    let batch = RecordBatchDecoder::try_new(
        &body,
        header,
        version.schema(),
        &HashMap::new(),
        &frame.message.version(),
    )?
    .with_require_alignment(true)
    .read_record_batch()?;
    Ok(version.lift(batch))
}

/// Returns a copy of `body`.
pub(crate) fn copied(body: &[u8]) -> Buffer {
    Buffer::from(body)
}

/// Returns `body`, a part of `payload`, as a buffer at an address that 8 divides: without a copy if it
/// lies at one, as it does where the allocator gave `payload` memory of its own and the prefix of a
/// message is of this build.
pub(crate) fn shared(payload: &Bytes, body: &[u8]) -> Buffer {
    if body.as_ptr().addr().is_multiple_of(8) {
        Buffer::from(payload.slice_ref(body))
    } else {
        copied(body)
    }
}

/// Reads the schema frame. The schema that [`crate::encode`] writes is recognized by its bytes.
fn read_schema<'a>(
    payload: &'a [u8],
    refuse: &impl Fn(String) -> Error,
) -> Result<(SchemaVersion, &'a [u8]), Error> {
    let known = &TEMPLATE.prefix[..TEMPLATE.schema_len];
    if let Some(rest) = payload.strip_prefix(known) {
        return Ok((SchemaVersion::NEWEST, rest));
    }
    let frame = match frame::read(payload).map_err(refuse)? {
        Next::Frame(frame) => frame,
        Next::End(_) => return Err(refuse("it has no schema".to_owned())),
    };
    let Some(found) = frame.message.header_as_schema() else {
        let kind = frame
            .message
            .header_type()
            .variant_name()
            .unwrap_or("unknown");
        return Err(refuse(format!(
            "its first message is a {kind}, not a Schema"
        )));
    };
    if !frame.body.is_empty() {
        return Err(refuse(format!(
            "its schema has a body of {} bytes",
            frame.body.len()
        )));
    }
    Ok((wire_schema::check(found)?, frame.rest))
}

/// Checks everything that the Arrow library asserts or trusts about a batch's metadata.
fn check_batch(frame: &Frame<'_>, header: BatchHeader<'_>) -> Result<(), String> {
    if frame.message.version() != MetadataVersion::V5 {
        return Err(format!(
            "its metadata is of {:?}, not V5",
            frame.message.version()
        ));
    }
    if header.compression().is_some() {
        return Err("its body is compressed; leave compression to Kafka".to_owned());
    }
    let (Some(nodes), Some(buffers)) = (header.nodes(), header.buffers()) else {
        return Err("its record batch names no nodes or no buffers".to_owned());
    };
    if nodes.len() != TEMPLATE.validity.len() || buffers.len() != TEMPLATE.buffers {
        return Err(format!(
            "its record batch has {} nodes and {} buffers, and the schema {} and {}",
            nodes.len(),
            buffers.len(),
            TEMPLATE.validity.len(),
            TEMPLATE.buffers
        ));
    }
    let mut left = frame.body.len();
    for (index, buffer) in buffers.iter().enumerate() {
        let (offset, length) = (buffer.offset(), buffer.length());
        let end = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(length).ok())
            .and_then(|(offset, length)| offset.checked_add(length));
        if end.is_none_or(|end| end > frame.body.len()) || offset % 8 != 0 {
            return Err(format!(
                "buffer {index} claims {length} bytes at {offset} of a body of {}",
                frame.body.len()
            ));
        }
        left = left
            .checked_sub(length as usize)
            .ok_or_else(|| format!("buffers up to {index} together exceed the body"))?;
    }
    for &index in &TEMPLATE.offsets {
        let length = buffers.get(index).length();
        if length % 4 != 0 {
            return Err(format!(
                "buffer {index} holds 4-byte offsets and has {length} bytes"
            ));
        }
    }
    // Every element takes at least one bit.
    let most = frame.body.len().saturating_mul(8) as i64;
    for (index, (node, &validity)) in nodes.iter().zip(&TEMPLATE.validity).enumerate() {
        let (length, nulls) = (node.length(), node.null_count());
        if !(0..=most).contains(&length) || !(0..=length).contains(&nulls) {
            return Err(format!(
                "node {index} claims {length} elements and {nulls} nulls"
            ));
        }
        let bits = buffers.get(validity).length().saturating_mul(8);
        if nulls > 0 && bits < length {
            return Err(format!(
                "node {index} has {bits} validity bits for {length} elements"
            ));
        }
    }
    if !(0..=most).contains(&header.length()) {
        return Err(format!("its record batch claims {} rows", header.length()));
    }
    if header.length() == 0 {
        return Err("its record batch has no rows".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;

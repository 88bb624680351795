use arrow::ipc::{Message, root_as_message};

/// Next element of an IPC stream.
pub(crate) enum Next<'a> {
    /// Frame with metadata and body.
    Frame(Frame<'a>),
    /// End-of-stream marker, with the bytes that follow it.
    End(&'a [u8]),
}

/// One frame of an IPC stream: metadata and body.
pub(crate) struct Frame<'a> {
    /// Metadata, verified as a flatbuffer.
    pub(crate) message: Message<'a>,
    /// Body; its claimed length has been checked against the bytes present.
    pub(crate) body: &'a [u8],
    /// Bytes of the stream after the frame's body.
    pub(crate) rest: &'a [u8],
}

/// Reads the frame at the start of `bytes` without copying. Every claimed length is compared with
/// the bytes that follow before it is used.
pub(crate) fn read(bytes: &[u8]) -> Result<Next<'_>, String> {
    let Some((header, rest)) = bytes.split_at_checked(8) else {
        return Err(format!(
            "it ends inside a frame header, after {} bytes of 8",
            bytes.len()
        ));
    };
    if header[..4] != [0xff; 4] {
        return Err(format!(
            "a frame begins with bytes {:02x?} instead of Arrow's continuation marker ff ff ff ff",
            &header[..4]
        ));
    }
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    if length == 0 {
        return Ok(Next::End(rest));
    }
    let Some((metadata, rest)) = rest.split_at_checked(length as usize) else {
        return Err(format!(
            "a frame claims {length} bytes of metadata and {} follow",
            rest.len()
        ));
    };
    let message = root_as_message(metadata)
        .map_err(|error| format!("a frame's metadata is no Arrow message: {error}"))?;
    let claimed = message.bodyLength();
    let body = usize::try_from(claimed)
        .ok()
        .and_then(|claimed| rest.split_at_checked(claimed));
    let Some((body, rest)) = body else {
        return Err(format!(
            "a frame claims a body of {claimed} bytes and {} follow",
            rest.len()
        ));
    };
    Ok(Next::Frame(Frame {
        message,
        body,
        rest,
    }))
}

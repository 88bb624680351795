use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    error::Error,
    layout::Layout,
    template::{END_OF_STREAM, TEMPLATE},
    trajectory::Trajectory,
};

/// Encodes rows as one message: an Arrow IPC stream of the schema, one uncompressed record batch
/// and end-of-stream.
///
/// Nothing is validated here. Readers check messages with [`crate::validate`], so the same check
/// judges this producer and producers in other languages.
///
/// # Errors
/// [`Error::NoRows`], and [`Error::TooManyElements`] if the rows exceed Arrow's 32-bit offsets.
pub fn encode(rows: &[Trajectory]) -> Result<Bytes, Error> {
    let len = encoded_len(rows)?;
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&TEMPLATE.prefix);
    let mut layout = Layout::writing(rows, &mut out);
    lay_out(&mut layout)?;
    layout.finish();
    out.extend_from_slice(&END_OF_STREAM);
    debug_assert_eq!(out.len(), len);
    Ok(Bytes::from(out))
}

/// Returns the length in bytes of the message that [`encode`] would write.
///
/// # Errors
/// The same errors as [`encode`].
pub fn encoded_len(rows: &[Trajectory]) -> Result<usize, Error> {
    if rows.is_empty() {
        return Err(Error::NoRows);
    }
    let mut layout = Layout::counting(rows);
    lay_out(&mut layout)?;
    Ok(TEMPLATE.prefix.len() + layout.finish() + END_OF_STREAM.len())
}

/// Splits a group by rows into parts, in order, so that each part's message has at most
/// `max_bytes`.
///
/// # Errors
/// [`Error::RowTooLarge`] if a single row exceeds the limit; otherwise the errors of [`encode`].
pub fn split(rows: Vec<Trajectory>, max_bytes: usize) -> Result<Vec<Vec<Trajectory>>, Error> {
    let mut parts = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let taken = longest_part(&rest, max_bytes)?;
        let later = rest.split_off(taken);
        parts.push(rest);
        rest = later;
    }
    Ok(parts)
}

/// Returns how many of the first rows fit into one message; at least one.
fn longest_part(rows: &[Trajectory], max_bytes: usize) -> Result<usize, Error> {
    let fits = |count: usize| match encoded_len(&rows[..count]) {
        Ok(len) => Ok(len <= max_bytes),
        Err(Error::TooManyElements { .. }) if count > 1 => Ok(false),
        Err(error) => Err(error),
    };
    if fits(rows.len())? {
        return Ok(rows.len());
    }
    let (mut fitting, mut exceeding) = (0, rows.len());
    while exceeding - fitting > 1 {
        let middle = usize::midpoint(fitting, exceeding);
        if fits(middle)? {
            fitting = middle;
        } else {
            exceeding = middle;
        }
    }
    if fitting == 0 {
        return Err(Error::RowTooLarge {
            group: rows[0].group_id,
            sample_index: rows[0].sample_index,
            bytes: encoded_len(&rows[..1])?,
            max_bytes,
        });
    }
    Ok(fitting)
}

/// Lays out every column, in the schema's order.
fn lay_out(layout: &mut Layout<'_>) -> Result<(), Error> {
    layout.fixed(|row| row.group_id.0);
    layout.fixed(|row| row.trajectory_id().0);
    layout.fixed(|row| row.group_size.to_le_bytes());
    layout.fixed(|row| row.sample_index.to_le_bytes());
    layout.text("policy", |row| Some(&row.policy))?;
    layout.fixed(|row| row.batch.to_le_bytes());
    layout.text("prompt_id", |row| Some(&row.prompt_id))?;
    layout.numbers("prompt_tokens", |row| &row.prompt_tokens)?;
    layout.numbers("completion_tokens", |row| &row.completion_tokens)?;
    layout.numbers("behavior_logprobs", |row| &row.behavior_logprobs)?;
    layout.booleans("loss_mask", |row| row.loss_mask.as_deref())?;
    lay_out_spans(layout)?;
    layout.fixed(|row| row.reward.to_le_bytes());
    lay_out_reward_parts(layout)?;
    layout.text("finish_reason", |row| Some(&row.finish_reason))?;
    layout.fixed(|row| row.temperature.to_le_bytes());
    layout.fixed(|row| row.top_p.to_le_bytes());
    layout.fixed(|row| row.top_k.to_le_bytes());
    layout.text("logprob_mode", |row| Some(row.logprob_mode.as_str()))?;
    layout.text("engine", |row| Some(&row.engine))?;
    layout.fixed(|row| row.created_at_us.to_le_bytes());
    layout.fixed(|row| row.generation_seconds.to_le_bytes());
    layout.text("prompt_text", |row| row.prompt_text.as_deref())?;
    layout.text("completion_text", |row| row.completion_text.as_deref())?;
    lay_out_metadata(layout)
}

fn lay_out_spans(layout: &mut Layout<'_>) -> Result<(), Error> {
    let rows = layout.rows();
    let spans = || rows.iter().flat_map(|row| &row.policy_spans);
    let count = layout.structs("policy_spans", |row| Some(row.policy_spans.len()))?;
    layout.leaf(count, 4, |out| {
        spans().for_each(|span| out.extend_from_slice(&span.start.to_le_bytes()));
    });
    layout.leaf(count, 8, |out| {
        spans().for_each(|span| out.extend_from_slice(&span.version.0.to_le_bytes()));
    });
    Ok(())
}

fn lay_out_reward_parts(layout: &mut Layout<'_>) -> Result<(), Error> {
    let rows = layout.rows();
    let parts = || {
        rows.iter()
            .filter_map(|row| row.reward_parts.as_ref())
            .flatten()
    };
    let count = layout.structs("reward_parts", |row| {
        row.reward_parts.as_ref().map(BTreeMap::len)
    })?;
    layout.leaf_text("reward_parts", count, || {
        parts().map(|(name, _)| name.as_str())
    })?;
    layout.leaf(count, 4, |out| {
        parts().for_each(|(_, value)| out.extend_from_slice(&value.to_le_bytes()));
    });
    Ok(())
}

fn lay_out_metadata(layout: &mut Layout<'_>) -> Result<(), Error> {
    let rows = layout.rows();
    let entries = || {
        rows.iter()
            .filter_map(|row| row.metadata.as_ref())
            .flatten()
    };
    let count = layout.structs("metadata", |row| row.metadata.as_ref().map(BTreeMap::len))?;
    layout.leaf_text("metadata", count, || entries().map(|(key, _)| key.as_str()))?;
    layout.leaf_text("metadata", count, || {
        entries().map(|(_, value)| value.as_str())
    })
}

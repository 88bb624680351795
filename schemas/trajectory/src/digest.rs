use arrow::datatypes::{ArrowNativeType, ToByteSlice};
use sha2::Digest;
use vintage_control::Sha256;

use crate::rows::Rows;

/// Prefix of every digest, so that no other kind of record hashes to the same bytes.
const DOMAIN: &[u8] = b"vintage.trajectory.content/1";
const SAMPLED: &[u8] = b"vintage.trajectory.sampled/1";

/// Computes the digest of the values that training reads, row after row over all `parts`: ids,
/// tokens, log-prob bits, masks, spans, reward and temperature bits, log-prob mode.
///
/// The digest depends on the values only. It does not depend on how the rows are split into parts,
/// nor on Arrow's buffers, so a message and its archived rows have the same digest.
pub fn content_sha256<'a>(parts: impl IntoIterator<Item = &'a Rows>) -> Sha256 {
    let mut content = Content(sha2::Sha256::new_with_prefix(DOMAIN));
    for rows in parts {
        (0..rows.len()).for_each(|row| content.add(rows, row));
    }
    Sha256(content.0.finalize().into())
}

/// Computes the digest of the same values without the group's id. Unlike [`content_sha256`] it does not depend on
/// the clock, which ids do: groups that hold the same have the same digest.
pub fn sampled_sha256<'a>(parts: impl IntoIterator<Item = &'a Rows>) -> Sha256 {
    let mut content = Content(sha2::Sha256::new_with_prefix(SAMPLED));
    for rows in parts {
        (0..rows.len()).for_each(|row| content.values(rows, row));
    }
    Sha256(content.0.finalize().into())
}

/// Running hash of the content. Every variable-length value is preceded by its length as u64.
struct Content(sha2::Sha256);

impl Content {
    fn add(&mut self, rows: &Rows, row: usize) {
        self.0.update(rows.group_id(row).0);
        self.values(rows, row);
    }

    fn values(&mut self, rows: &Rows, row: usize) {
        self.0.update(rows.group_size(row).to_le_bytes());
        self.0.update(rows.sample_index(row).to_le_bytes());
        self.numbers(rows.prompt_tokens(row));
        self.numbers(rows.completion_tokens(row));
        self.numbers(rows.behavior_logprobs(row));
        if let Some(mask) = rows.loss_mask(row) {
            self.0.update([1]);
            let bits: Vec<u8> = mask.iter().map(u8::from).collect();
            self.numbers(&bits);
        } else {
            self.0.update([0]);
        }
        let spans = rows.policy_spans(row);
        self.length(spans.len());
        for span in spans {
            self.0.update(span.start.to_le_bytes());
            self.0.update(span.version.0.to_le_bytes());
        }
        self.0.update(rows.reward(row).to_bits().to_le_bytes());
        self.0.update(rows.temperature(row).to_bits().to_le_bytes());
        self.numbers(rows.logprob_mode(row).as_str().as_bytes());
    }

    fn numbers<T: ArrowNativeType>(&mut self, values: &[T]) {
        self.length(values.len());
        self.0.update(values.to_byte_slice());
    }

    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_le_bytes());
    }
}

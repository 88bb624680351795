use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray},
    buffer::{BooleanBuffer, Buffer},
};
use bytes::Bytes;
use vintage_control::PolicyVersion;

use crate::{
    columns::Columns,
    decode,
    error::Error,
    id::{GroupId, TrajectoryId},
    portable,
    trajectory::{LogprobMode, PolicySpan, REFERENCE_ANSWER, Trajectory},
    wire_schema,
};

/// Rows of one message: a typed view over an Arrow batch that copies nothing and is cheap to clone.
///
/// Reading guarantees types, UTF-8 and values that the domain types can hold. Lengths and
/// plausibility of numbers are checked by [`crate::validate`]. Accessors take the row's number and
/// panic if it is not below [`Rows::len`], as slices do.
#[derive(Clone)]
pub struct Rows {
    batch: RecordBatch,
    columns: Arc<Columns>,
}

impl Rows {
    /// Decodes a message. Copies the payload at most once, never panics, and allocates nothing by
    /// lengths that the message claims, whatever the bytes.
    ///
    /// # Errors
    /// The bytes are not one whole, uncompressed Arrow IPC stream of trajectory v1 with one record
    /// batch and nothing after it, or hold a value that other readers of an archive could not read.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        Self::held(payload, decode::copied)
    }

    /// Decodes a message as [`Rows::decode`] does, and shares its memory instead of copying it, if it
    /// is aligned to 8 bytes. The rows keep `payload` alive.
    ///
    /// # Errors
    /// Those of [`Rows::decode`].
    pub fn sharing(payload: &Bytes) -> Result<Self, Error> {
        Self::held(payload, |body| decode::shared(payload, body))
    }

    fn held(payload: &[u8], hold: impl FnOnce(&[u8]) -> Buffer) -> Result<Self, Error> {
        decode::guard(payload.len(), || {
            let rows = Self::of_columns(decode::decode(payload, hold)?)?;
            portable::check(&rows.columns, rows.len())?;
            Ok(rows)
        })
    }

    /// Wraps a batch read from elsewhere, such as the archive, after the same checks of schema and
    /// values. Values that [`Rows::decode`] refuses only for the sake of other readers are
    /// accepted, because they are archived already.
    ///
    /// # Errors
    /// The schema is not trajectory v1's, or a value is not allowed by it.
    pub fn from_batch(batch: RecordBatch) -> Result<Self, Error> {
        let version = wire_schema::check_batch(batch.schema_ref())?;
        Self::of_columns(version.lift(batch))
    }

    fn of_columns(batch: RecordBatch) -> Result<Self, Error> {
        let columns = Arc::new(Columns::of(&batch)?);
        Ok(Self { batch, columns })
    }

    /// Returns the underlying Arrow batch.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Returns true if there are no rows, which never holds for a decoded message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the id of the group, which is one attempt at a prompt.
    pub fn group_id(&self, row: usize) -> GroupId {
        GroupId(id(&self.columns.group_id, row))
    }

    /// Returns the row's own id, as written in the message.
    pub fn trajectory_id(&self, row: usize) -> TrajectoryId {
        TrajectoryId(id(&self.columns.trajectory_id, row))
    }

    /// Returns the number of completions of the whole group, over all its parts.
    pub fn group_size(&self, row: usize) -> u16 {
        self.columns.group_size[row]
    }

    /// Returns the index of the row within its whole group, from 0.
    pub fn sample_index(&self, row: usize) -> u16 {
        self.columns.sample_index[row]
    }

    /// Returns the policy that sampled the row.
    pub fn policy(&self, row: usize) -> &str {
        self.columns.policy.value(row)
    }

    /// Returns the update that the row was sampled for; −1 = any.
    pub fn batch_number(&self, row: usize) -> i64 {
        self.columns.batch[row]
    }

    /// Returns the prompt's id in its prompt set.
    pub fn prompt_id(&self, row: usize) -> &str {
        self.columns.prompt_id.value(row)
    }

    /// Returns the token ids of the prompt.
    pub fn prompt_tokens(&self, row: usize) -> &[i32] {
        self.columns.prompt_tokens.row(row)
    }

    /// Returns the token ids of the completion.
    pub fn completion_tokens(&self, row: usize) -> &[i32] {
        self.columns.completion_tokens.row(row)
    }

    /// Returns the log-prob of each completion token under the policy that sampled it, in nats.
    pub fn behavior_logprobs(&self, row: usize) -> &[f32] {
        self.columns.behavior_logprobs.row(row)
    }

    /// Returns the mask of completion tokens that train; `None` = all.
    pub fn loss_mask(&self, row: usize) -> Option<BooleanBuffer> {
        let mask = &self.columns.loss_mask;
        mask.optional_span(row)
            .map(|span| mask.values.slice(span.start, span.len()))
    }

    /// Returns true if completion token `token` trains; false beyond the end of a mask.
    pub fn is_trained(&self, row: usize, token: usize) -> bool {
        let mask = &self.columns.loss_mask;
        match mask.optional_span(row) {
            None => true,
            Some(span) => token < span.len() && mask.values.value(span.start + token),
        }
    }

    /// Returns the spans of completion tokens, each sampled by one policy version.
    pub fn policy_spans(
        &self,
        row: usize,
    ) -> impl DoubleEndedIterator<Item = PolicySpan> + ExactSizeIterator + '_ {
        self.spans(self.columns.policy_spans.span(row))
    }

    /// Returns the version that sampled completion token `token`, which is that of the last span
    /// starting at or before it. Without such a span, which [`crate::validate`] would refuse, the
    /// result is version 0.
    pub fn version_of(&self, row: usize, token: usize) -> PolicyVersion {
        self.policy_spans(row)
            .rfind(|span| usize::try_from(span.start).is_ok_and(|start| start <= token))
            .map_or(PolicyVersion::ZERO, |span| span.version)
    }

    /// Returns the oldest policy version of any row; `None` without spans.
    pub fn min_version(&self) -> Option<PolicyVersion> {
        self.all_spans().map(|span| span.version).min()
    }

    /// Returns the newest policy version of any row; `None` without spans.
    pub fn max_version(&self) -> Option<PolicyVersion> {
        self.all_spans().map(|span| span.version).max()
    }

    /// Returns the reward that training uses.
    pub fn reward(&self, row: usize) -> f32 {
        self.columns.reward[row]
    }

    /// Returns the named parts of the reward in the order written; `None` if the row has none.
    pub fn reward_parts(&self, row: usize) -> Option<impl Iterator<Item = (&str, f32)> + '_> {
        let parts = &self.columns.reward_parts;
        let (names, values) = (&parts.values.0, &parts.values.1);
        parts
            .optional_span(row)
            .map(|span| span.map(|at| (names.value(at), values[at])))
    }

    /// Returns the reason for which sampling ended: `stop`, `length` or the engine's own word.
    pub fn finish_reason(&self, row: usize) -> &str {
        self.columns.finish_reason.value(row)
    }

    /// Returns the sampling temperature.
    pub fn temperature(&self, row: usize) -> f32 {
        self.columns.temperature[row]
    }

    /// Returns the nucleus mass kept in sampling; 1 = all.
    pub fn top_p(&self, row: usize) -> f32 {
        self.columns.top_p[row]
    }

    /// Returns the number of likeliest tokens kept in sampling; 0 or −1 = all.
    pub fn top_k(&self, row: usize) -> i32 {
        self.columns.top_k[row]
    }

    /// Returns the distribution that the log-probs are taken over.
    pub fn logprob_mode(&self, row: usize) -> LogprobMode {
        self.columns.logprob_mode[row]
    }

    /// Returns the name of the inference engine that sampled the row.
    pub fn engine(&self, row: usize) -> &str {
        self.columns.engine.value(row)
    }

    /// Returns the time at which the row was created, in microseconds since the epoch, UTC.
    pub fn created_at_us(&self, row: usize) -> i64 {
        self.columns.created_at[row]
    }

    /// Returns the duration of sampling in seconds; 0 if it was not measured.
    pub fn generation_seconds(&self, row: usize) -> f32 {
        self.columns.generation_seconds[row]
    }

    /// Returns the prompt as text, if the row has it.
    pub fn prompt_text(&self, row: usize) -> Option<&str> {
        optional(&self.columns.prompt_text, row)
    }

    /// Returns the completion as text, if the row has it.
    pub fn completion_text(&self, row: usize) -> Option<&str> {
        optional(&self.columns.completion_text, row)
    }

    /// Returns the producer's additional entries in the order written; `None` if there are none.
    pub fn metadata(&self, row: usize) -> Option<impl Iterator<Item = (&str, &str)> + '_> {
        let entries = &self.columns.metadata;
        let (keys, values) = (&entries.values.0, &entries.values.1);
        entries
            .optional_span(row)
            .map(|span| span.map(|at| (keys.value(at), values.value(at))))
    }

    /// Known answer of the row's prompt, from its metadata.
    pub fn reference_answer(&self, row: usize) -> Option<&str> {
        let mut metadata = self.metadata(row)?;
        let (_, answer) = metadata.find(|(key, _)| *key == REFERENCE_ANSWER)?;
        Some(answer)
    }

    /// Copies the rows into the producer's type. If a map key repeats, as older archives allow, its
    /// last value is kept.
    pub fn to_trajectories(&self) -> Vec<Trajectory> {
        (0..self.len()).map(|row| self.to_trajectory(row)).collect()
    }

    fn to_trajectory(&self, row: usize) -> Trajectory {
        Trajectory {
            group_id: self.group_id(row),
            group_size: self.group_size(row),
            sample_index: self.sample_index(row),
            policy: self.policy(row).to_owned(),
            batch: self.batch_number(row),
            prompt_id: self.prompt_id(row).to_owned(),
            prompt_tokens: self.prompt_tokens(row).to_vec(),
            completion_tokens: self.completion_tokens(row).to_vec(),
            behavior_logprobs: self.behavior_logprobs(row).to_vec(),
            loss_mask: self.loss_mask(row).map(|mask| mask.iter().collect()),
            policy_spans: self.policy_spans(row).collect(),
            reward: self.reward(row),
            reward_parts: self.reward_parts(row).map(|parts| {
                parts
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
            finish_reason: self.finish_reason(row).to_owned(),
            temperature: self.temperature(row),
            top_p: self.top_p(row),
            top_k: self.top_k(row),
            logprob_mode: self.logprob_mode(row),
            engine: self.engine(row).to_owned(),
            created_at_us: self.created_at_us(row),
            generation_seconds: self.generation_seconds(row),
            prompt_text: self.prompt_text(row).map(str::to_owned),
            completion_text: self.completion_text(row).map(str::to_owned),
            metadata: self.metadata(row).map(|entries| {
                entries
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect()
            }),
        }
    }

    fn all_spans(&self) -> impl Iterator<Item = PolicySpan> + '_ {
        (0..self.len()).flat_map(|row| self.policy_spans(row))
    }

    fn spans(
        &self,
        span: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = PolicySpan> + ExactSizeIterator + '_ {
        let values = &self.columns.policy_spans.values;
        let (starts, versions) = (&values.start[span.clone()], &values.version[span]);
        starts
            .iter()
            .zip(versions)
            .map(|(&start, &version)| PolicySpan {
                start,
                // Negative versions were refused when the columns were read.
                version: PolicyVersion(version as u64),
            })
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.to_trajectories()).finish()
    }
}

fn id(column: &FixedSizeBinaryArray, row: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(column.value(row));
    id
}

fn optional(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray},
    buffer::BooleanBuffer,
};
use vintage_control::PolicyVersion;

use crate::{
    Error, GroupId, LogprobMode, PolicySpan, Trajectory, TrajectoryId, columns::Columns, decode,
    portable, wire_schema,
};

/// The rows of one message, read where they lie: a typed view over an Arrow batch that copies
/// nothing and is cheap to clone.
///
/// Reading guarantees types, UTF-8 and values the domain types can hold; whether lengths agree
/// and numbers make sense is [`crate::validate`]'s business. Accessors take the row's number and
/// panic beyond [`Rows::len`], as slices do.
#[derive(Clone)]
pub struct Rows {
    batch: RecordBatch,
    columns: Arc<Columns>,
}

impl Rows {
    /// Reads a message: at most one copy of the payload, no panic and no allocation by a claim,
    /// whatever the bytes.
    ///
    /// # Errors
    /// Where the bytes are not one whole, uncompressed Arrow IPC stream of trajectory v1 with
    /// one record batch and nothing behind it, or hold a value that other readers of an archive
    /// could not read.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        decode::guard(payload.len(), || {
            let rows = Self::of_columns(decode::decode(payload)?)?;
            portable::check(&rows.columns, rows.len())?;
            Ok(rows)
        })
    }

    /// Takes a batch read from elsewhere (the archive), with the same checks of its schema and
    /// values but for what [`Rows::decode`] refuses for the sake of others: it is archived already.
    ///
    /// # Errors
    /// Where the schema is not trajectory v1's, or a value is not one of it.
    pub fn from_batch(batch: RecordBatch) -> Result<Self, Error> {
        let version = wire_schema::check_batch(batch.schema_ref())?;
        Self::of_columns(version.lift(batch))
    }

    fn of_columns(batch: RecordBatch) -> Result<Self, Error> {
        let columns = Arc::new(Columns::of(&batch)?);
        Ok(Self { batch, columns })
    }

    /// The batch beneath.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are none; never so for a decoded message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The attempt at a prompt.
    pub fn group_id(&self, row: usize) -> GroupId {
        GroupId(id(&self.columns.group_id, row))
    }

    /// The row's own id, as the message states it.
    pub fn trajectory_id(&self, row: usize) -> TrajectoryId {
        TrajectoryId(id(&self.columns.trajectory_id, row))
    }

    /// Completions of the whole group, over all its parts.
    pub fn group_size(&self, row: usize) -> u16 {
        self.columns.group_size[row]
    }

    /// Which of them the row is, from 0.
    pub fn sample_index(&self, row: usize) -> u16 {
        self.columns.sample_index[row]
    }

    /// The lineage that sampled.
    pub fn policy(&self, row: usize) -> &str {
        self.columns.policy.value(row)
    }

    /// Which update it was sampled for; −1 = any.
    pub fn batch_number(&self, row: usize) -> i64 {
        self.columns.batch[row]
    }

    /// The prompt's id in its prompt set.
    pub fn prompt_id(&self, row: usize) -> &str {
        self.columns.prompt_id.value(row)
    }

    /// Token ids of the prompt.
    pub fn prompt_tokens(&self, row: usize) -> &[i32] {
        self.columns.prompt_tokens.row(row)
    }

    /// Token ids of the completion.
    pub fn completion_tokens(&self, row: usize) -> &[i32] {
        self.columns.completion_tokens.row(row)
    }

    /// Log-prob of each completion token under the policy that sampled it, nats.
    pub fn behavior_logprobs(&self, row: usize) -> &[f32] {
        self.columns.behavior_logprobs.row(row)
    }

    /// Which completion tokens train; `None` = all.
    pub fn loss_mask(&self, row: usize) -> Option<BooleanBuffer> {
        let mask = &self.columns.loss_mask;
        mask.optional_span(row)
            .map(|span| mask.values.slice(span.start, span.len()))
    }

    /// Whether completion token `token` trains; false beyond the end of a mask.
    pub fn is_trained(&self, row: usize, token: usize) -> bool {
        let mask = &self.columns.loss_mask;
        match mask.optional_span(row) {
            None => true,
            Some(span) => token < span.len() && mask.values.value(span.start + token),
        }
    }

    /// Which version sampled which completion tokens.
    pub fn policy_spans(
        &self,
        row: usize,
    ) -> impl DoubleEndedIterator<Item = PolicySpan> + ExactSizeIterator + '_ {
        self.spans(self.columns.policy_spans.span(row))
    }

    /// The version that sampled completion token `token`: that of the last span that starts at
    /// or before it. On rows that [`crate::validate`] would refuse for having no such span,
    /// version 0.
    pub fn version_of(&self, row: usize, token: usize) -> PolicyVersion {
        self.policy_spans(row)
            .rfind(|span| usize::try_from(span.start).is_ok_and(|start| start <= token))
            .map_or(PolicyVersion::ZERO, |span| span.version)
    }

    /// The oldest version of any row; `None` without spans.
    pub fn min_version(&self) -> Option<PolicyVersion> {
        self.all_spans().map(|span| span.version).min()
    }

    /// The newest version of any row; `None` without spans.
    pub fn max_version(&self) -> Option<PolicyVersion> {
        self.all_spans().map(|span| span.version).max()
    }

    /// The reward training uses.
    pub fn reward(&self, row: usize) -> f32 {
        self.columns.reward[row]
    }

    /// What the reward is made of, as it was written; `None` where the row has none.
    pub fn reward_parts(&self, row: usize) -> Option<impl Iterator<Item = (&str, f32)> + '_> {
        let parts = &self.columns.reward_parts;
        let (names, values) = (&parts.values.0, &parts.values.1);
        parts
            .optional_span(row)
            .map(|span| span.map(|at| (names.value(at), values[at])))
    }

    /// Why sampling ended.
    pub fn finish_reason(&self, row: usize) -> &str {
        self.columns.finish_reason.value(row)
    }

    /// Sampling temperature.
    pub fn temperature(&self, row: usize) -> f32 {
        self.columns.temperature[row]
    }

    /// Nucleus mass kept; 1 = all.
    pub fn top_p(&self, row: usize) -> f32 {
        self.columns.top_p[row]
    }

    /// Likeliest tokens kept; 0 = all.
    pub fn top_k(&self, row: usize) -> i32 {
        self.columns.top_k[row]
    }

    /// What the log-probs are taken over.
    pub fn logprob_mode(&self, row: usize) -> LogprobMode {
        self.columns.logprob_mode[row]
    }

    /// The engine that sampled.
    pub fn engine(&self, row: usize) -> &str {
        self.columns.engine.value(row)
    }

    /// When, in microseconds since the epoch, UTC.
    pub fn created_at_us(&self, row: usize) -> i64 {
        self.columns.created_at[row]
    }

    /// How long sampling took, seconds.
    pub fn generation_seconds(&self, row: usize) -> f32 {
        self.columns.generation_seconds[row]
    }

    /// The prompt as text.
    pub fn prompt_text(&self, row: usize) -> Option<&str> {
        optional(&self.columns.prompt_text, row)
    }

    /// The completion as text.
    pub fn completion_text(&self, row: usize) -> Option<&str> {
        optional(&self.columns.completion_text, row)
    }

    /// Whatever else the producer wanted kept, as it was written; `None` where there is none.
    pub fn metadata(&self, row: usize) -> Option<impl Iterator<Item = (&str, &str)> + '_> {
        let entries = &self.columns.metadata;
        let (keys, values) = (&entries.values.0, &entries.values.1);
        entries
            .optional_span(row)
            .map(|span| span.map(|at| (keys.value(at), values.value(at))))
    }

    /// Copies the rows out into the producer's form. Of map keys that repeat, as in archives of
    /// before they were refused, the last counts.
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
                // Negative ones were refused when the columns were taken.
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

//! Packing of a batch's rows for the model.

use vintage_control::{M2Scope, MicroBatch, PolicyVersion};
use vintage_model::{Packed, Targets};
use vintage_trajectory::Rows;

use crate::intake::ReadyGroup;

/// Splits the row numbers, in order, into micro-batches; a new one begins where the next row would
/// exceed `budget` tokens.
pub fn micro_batches(groups: &[ReadyGroup], budget: usize) -> Vec<MicroBatch> {
    let mut batches: Vec<MicroBatch> = Vec::new();
    let mut used = 0;
    for (number, (rows, row)) in rows_of(groups).enumerate() {
        let tokens = rows.prompt_tokens(row).len() + rows.completion_tokens(row).len();
        if batches.is_empty() || used + tokens > budget {
            batches.push(MicroBatch { rows: Vec::new() });
            used = 0;
        }
        used += tokens;
        if let Some(batch) = batches.last_mut() {
            batch.rows.push(number as u32);
        }
    }
    batches
}

/// Returns the rows of a batch in plan order: groups in order, rows by sample index.
pub(crate) fn rows_of(groups: &[ReadyGroup]) -> impl Iterator<Item = (&Rows, usize)> {
    groups.iter().flat_map(|group| {
        let mut rows: Vec<_> = group
            .parts
            .iter()
            .flat_map(|rows| (0..rows.len()).map(move |row| (rows, row)))
            .collect();
        rows.sort_by_key(|(rows, row)| rows.sample_index(*row));
        rows
    })
}

/// Micro-batch in the model's layout, with what the loss needs of each completion token.
#[derive(Debug, Default)]
pub struct PackedBatch {
    /// Prompt and completion of each row, end to end.
    pub packed: Packed,
    /// One target per completion token.
    pub targets: Targets,
    /// Behaviour log-prob of each target.
    pub behavior: Vec<f32>,
    /// Advantage of each target.
    pub advantage: Vec<f32>,
    /// True for every target that is trained on.
    pub valid: Vec<bool>,
    /// Log-prob of each target under the penalty's reference; empty without a penalty.
    pub reference: Vec<f32>,
    /// Log-prob of each target under the version before; empty without a penalty.
    pub previous: Vec<f32>,
    /// Staleness of each target, in updates; empty where nobody reads it.
    pub staleness: Vec<u64>,
}

impl PackedBatch {
    /// Returns the end of each row's targets: the positions of a row's targets are before the
    /// beginning of the next row.
    fn row_ends(&self) -> impl Iterator<Item = usize> {
        let starts = self.packed.starts.iter().skip(1);
        let positions = &self.targets.position;
        starts.map(|&next| positions.partition_point(|&position| (position as usize) < next))
    }
}

/// Known values of the targets of all batches, one batch after the other.
#[derive(Debug)]
pub struct Joined {
    /// Behaviour log-probs.
    pub behavior: Vec<f32>,
    /// Advantages.
    pub advantage: Vec<f32>,
    /// True for every target that is trained on.
    pub valid: Vec<bool>,
    /// Log-probs under the penalty's reference; empty without a penalty.
    pub reference: Vec<f32>,
    /// Log-probs under the version before; empty without a penalty.
    pub previous: Vec<f32>,
    /// End of each row's targets, as an index one past the last.
    pub row_ends: Vec<usize>,
    /// Scope of each target; absent if the whole batch is one.
    pub scope: Option<Vec<u32>>,
}

impl Joined {
    /// Joins the values of `batches`, with scopes of this kind.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a PackedBatch>, scope: M2Scope) -> Self {
        let mut joined = Self {
            behavior: Vec::new(),
            advantage: Vec::new(),
            valid: Vec::new(),
            reference: Vec::new(),
            previous: Vec::new(),
            row_ends: Vec::new(),
            scope: (!scope.is_batch()).then(Vec::new),
        };
        for (number, batch) in batches.into_iter().enumerate() {
            let before = joined.valid.len();
            joined
                .row_ends
                .extend(batch.row_ends().map(|end| before + end));
            joined.behavior.extend_from_slice(&batch.behavior);
            joined.advantage.extend_from_slice(&batch.advantage);
            joined.valid.extend_from_slice(&batch.valid);
            joined.reference.extend_from_slice(&batch.reference);
            joined.previous.extend_from_slice(&batch.previous);
            if let Some(all) = &mut joined.scope {
                let of_target = |at: usize| match scope {
                    M2Scope::Batch => 0,
                    M2Scope::MicroBatch => number as u32,
                    // 0, 1, 2 to 3, 4 to 7: the number of binary digits.
                    M2Scope::Staleness => {
                        let staleness = batch.staleness.get(at).copied().unwrap_or(0);
                        u64::BITS - staleness.leading_zeros()
                    }
                };
                all.extend((0..batch.valid.len()).map(of_target));
            }
        }
        joined
    }
}

/// Row of a batch, with what its update says about it.
pub(crate) struct PlannedRow<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) row: usize,
    pub(crate) advantage: f32,
    /// Newest version of the row's policy, from which staleness is measured.
    pub(crate) newest: PolicyVersion,
}

/// Returns the staleness of every completion token of a row.
pub(crate) fn staleness_of(
    rows: &Rows,
    row: usize,
    newest: PolicyVersion,
) -> impl Iterator<Item = u64> {
    let mut spans = rows.policy_spans(row).peekable();
    let mut version = PolicyVersion::ZERO;
    (0..rows.completion_tokens(row).len()).map(move |place| {
        while let Some(span) = spans.next_if(|span| span.start as usize <= place) {
            version = span.version;
        }
        newest.staleness_of(version).0
    })
}

/// Lays out rows as one micro-batch.
pub(crate) fn lay_out<'a>(rows: impl IntoIterator<Item = PlannedRow<'a>>) -> PackedBatch {
    let mut batch = PackedBatch::default();
    batch.packed.starts.push(0);
    for planned in rows {
        let PlannedRow {
            rows,
            row,
            advantage,
            newest,
        } = planned;
        let start = batch.packed.tokens.len();
        let prompt = rows.prompt_tokens(row);
        let completion = rows.completion_tokens(row);
        let temperature = rows.temperature(row);
        // The last completion token is predicted but never an input.
        let inputs = prompt
            .iter()
            .chain(&completion[..completion.len().saturating_sub(1)]);
        batch
            .packed
            .tokens
            .extend(inputs.map(|&token| token as u32));
        batch.packed.starts.push(batch.packed.tokens.len());
        for (place, &token) in completion.iter().enumerate() {
            batch
                .targets
                .position
                .push((start + prompt.len() - 1 + place) as u32);
            batch.targets.token.push(token as u32);
            batch.targets.temperature.push(temperature);
            batch.valid.push(rows.is_trained(row, place));
            batch.advantage.push(advantage);
        }
        batch
            .behavior
            .extend_from_slice(rows.behavior_logprobs(row));
        batch.staleness.extend(staleness_of(rows, row, newest));
    }
    batch
}

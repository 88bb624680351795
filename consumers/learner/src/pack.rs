//! Packing of a batch's rows for the model.

use vintage_control::{M2Scope, MicroBatch, Plan, PolicyVersion};
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
    placed(groups).map(|placed| (placed.rows, placed.row))
}

/// Returns the rows of a batch in plan order, each with the place of its group.
pub(crate) fn placed(groups: &[ReadyGroup]) -> impl Iterator<Item = Placed<'_>> {
    groups.iter().enumerate().flat_map(|(place, group)| {
        let mut rows: Vec<_> = group
            .parts
            .iter()
            .flat_map(|rows| (0..rows.len()).map(move |row| (rows, row)))
            .collect();
        rows.sort_by_key(|(rows, row)| rows.sample_index(*row));
        rows.into_iter().map(move |(rows, row)| Placed {
            group: place,
            rows,
            row,
        })
    })
}

/// Micro-batch in the model's layout, with what the loss needs of each completion token.
#[derive(Debug, Clone, Default)]
pub struct PackedBatch {
    /// Prompt and completion of each row, end to end; or a prompt once, and the completions of the
    /// rows that have it.
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
    /// Rows of the micro-batch, in order; their targets follow one another.
    pub rows: Vec<PackedRow>,
}

impl PackedBatch {
    /// Returns the end of each row's targets.
    fn row_ends(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().scan(0, |end, row| {
            *end += row.targets;
            Some(*end)
        })
    }
}

/// Row of a micro-batch: where it comes from and what sampled it.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedRow {
    /// Place of the row's group in the plan.
    pub group: u32,
    /// Index of the row within its group.
    pub sample: u16,
    /// Reward of the row.
    pub reward: f32,
    /// Number of targets, which is that of the completion's tokens.
    pub targets: usize,
    /// Versions that sampled the tokens, in the order of the spans' starts.
    pub spans: Vec<PackedSpan>,
}

/// Tokens of a row that one version sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedSpan {
    /// First token of the span, counted within the completion.
    pub start: usize,
    /// Version that sampled the tokens.
    pub version: PolicyVersion,
    /// Staleness of the tokens, in updates.
    pub staleness: u64,
}

/// Row of an update that is to be laid out.
#[derive(Clone, Copy)]
pub(crate) struct Placed<'a> {
    /// Place of the row's group in the plan.
    pub(crate) group: usize,
    /// Part of the group that holds the row.
    pub(crate) rows: &'a Rows,
    /// Number of the row within the part.
    pub(crate) row: usize,
}

impl<'a> Placed<'a> {
    fn prompt(&self) -> &'a [i32] {
        self.rows.prompt_tokens(self.row)
    }

    /// Returns the version from which the result's staleness is measured, too.
    fn newest(&self, plan: &Plan, groups: &[ReadyGroup]) -> PolicyVersion {
        groups.get(self.group).map_or(plan.version, |group| {
            plan.newest_of(group.planned.source.as_deref(), &group.policy)
        })
    }

    fn packed(&self, plan: &Plan, groups: &[ReadyGroup]) -> PackedRow {
        let &Self { group, rows, row } = self;
        let newest = self.newest(plan, groups);
        let spans = rows.policy_spans(row).map(|span| PackedSpan {
            start: span.start as usize,
            version: span.version,
            staleness: newest.staleness_of(span.version).0,
        });
        PackedRow {
            group: group as u32,
            sample: rows.sample_index(row),
            reward: rows.reward(row),
            targets: rows.completion_tokens(row).len(),
            spans: spans.collect(),
        }
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

/// Lays out rows of `groups`, each with its advantage, as one micro-batch of `plan`. If
/// `shares_prompts`, rows that follow one another and have one prompt have it in the batch once.
pub(crate) fn lay_out(
    plan: &Plan,
    groups: &[ReadyGroup],
    rows: &[(Placed<'_>, f32)],
    shares_prompts: bool,
) -> PackedBatch {
    let mut batch = PackedBatch::default();
    let is_one = |(a, _): &(Placed<'_>, f32), (b, _): &(Placed<'_>, f32)| {
        shares_prompts && a.prompt() == b.prompt()
    };
    for run in rows.chunk_by(is_one) {
        batch.add(plan, groups, run);
    }
    batch
}

impl PackedBatch {
    /// Adds rows that have one prompt: as one sequence if it is one row, else as the prompt and the
    /// sequences that continue it.
    fn add(&mut self, plan: &Plan, groups: &[ReadyGroup], rows: &[(Placed<'_>, f32)]) {
        let shared = match rows {
            [] | [_] => None,
            [(first, _), ..] => Some(self.packed.push(tokens(first.prompt()), None)),
        };
        for &(placed, advantage) in rows {
            let Placed { rows, row, .. } = placed;
            let newest = placed.newest(plan, groups);
            self.rows.push(placed.packed(plan, groups));
            let (prompt, completion) = (placed.prompt(), rows.completion_tokens(row));
            let positions = match shared {
                None => self.packed.push_row(tokens(prompt), tokens(completion)),
                Some(shared) => self.packed.push_completion(shared, tokens(completion)),
            };
            self.targets.position.extend(positions);
            let temperature = rows.temperature(row);
            for (place, &token) in completion.iter().enumerate() {
                self.targets.token.push(token as u32);
                self.targets.temperature.push(temperature);
                self.valid.push(rows.is_trained(row, place));
                self.advantage.push(advantage);
            }
            self.behavior.extend_from_slice(rows.behavior_logprobs(row));
            self.staleness.extend(staleness_of(rows, row, newest));
        }
    }
}

fn tokens(ids: &[i32]) -> impl ExactSizeIterator<Item = u32> + '_ {
    ids.iter().map(|&token| token as u32)
}

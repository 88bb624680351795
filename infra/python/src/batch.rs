//! Batch of an update, as NumPy arrays.

use pyo3::{prelude::*, types::PyDict};
use vintage_learner::PackedBatch;

use crate::{
    array::{Number, flags, outgoing},
    engine::Handed,
    fault::usage,
};

/// Values of all micro-batches, one after the other.
#[derive(Default)]
struct Columns {
    input_ids: Vec<i64>,
    cu_seqlens: Vec<i64>,
    target_positions: Vec<i64>,
    targets: Vec<i64>,
    temperature: Vec<f32>,
    logprobs: Vec<f32>,
    advantages: Vec<f32>,
    loss_mask: Vec<bool>,
    versions: Vec<i64>,
    staleness: Vec<i64>,
    target_counts: Vec<i64>,
    groups: Vec<i64>,
    samples: Vec<i64>,
    rewards: Vec<f32>,
    micro_batches: Vec<i64>,
}

impl Columns {
    fn of(batches: &[PackedBatch]) -> Self {
        let mut columns = Self {
            cu_seqlens: vec![0],
            micro_batches: vec![0],
            ..Self::default()
        };
        for batch in batches {
            columns.add(batch);
        }
        columns
    }

    fn add(&mut self, batch: &PackedBatch) {
        let base = self.input_ids.len() as i64;
        let ids = batch.packed.tokens.iter().map(|&token| i64::from(token));
        self.input_ids.extend(ids);
        let ends = batch.packed.starts.iter().skip(1);
        self.cu_seqlens.extend(ends.map(|&end| base + end as i64));
        let positions = batch.targets.position.iter();
        self.target_positions
            .extend(positions.map(|&position| base + i64::from(position)));
        let targets = batch.targets.token.iter().map(|&token| i64::from(token));
        self.targets.extend(targets);
        self.temperature
            .extend_from_slice(&batch.targets.temperature);
        self.logprobs.extend_from_slice(&batch.behavior);
        self.advantages.extend_from_slice(&batch.advantage);
        self.loss_mask.extend_from_slice(&batch.valid);
        for row in &batch.rows {
            let mut spans = row.spans.iter().peekable();
            let (mut version, mut staleness) = (0, 0);
            for place in 0..row.targets {
                while let Some(span) = spans.next_if(|span| span.start <= place) {
                    (version, staleness) = (span.version.0 as i64, span.staleness as i64);
                }
                self.versions.push(version);
                self.staleness.push(staleness);
            }
            self.target_counts.push(row.targets as i64);
            self.groups.push(i64::from(row.group));
            self.samples.push(i64::from(row.sample));
            self.rewards.push(row.reward);
        }
        self.micro_batches.push(self.rewards.len() as i64);
    }
}

/// Returns an update as a dictionary of arrays and of its plan as JSON.
pub(crate) fn to_python<'py>(py: Python<'py>, handed: &Handed) -> PyResult<Bound<'py, PyDict>> {
    let columns = Columns::of(&handed.batches);
    let dict = PyDict::new(py);
    set(&dict, "input_ids", &columns.input_ids)?;
    set(&dict, "cu_seqlens", &columns.cu_seqlens)?;
    set(&dict, "target_positions", &columns.target_positions)?;
    set(&dict, "targets", &columns.targets)?;
    set(&dict, "temperature", &columns.temperature)?;
    set(&dict, "logprobs", &columns.logprobs)?;
    set(&dict, "advantages", &columns.advantages)?;
    dict.set_item("loss_mask", flags(py, &columns.loss_mask)?)?;
    set(&dict, "versions", &columns.versions)?;
    set(&dict, "staleness", &columns.staleness)?;
    set(&dict, "target_counts", &columns.target_counts)?;
    set(&dict, "groups", &columns.groups)?;
    set(&dict, "samples", &columns.samples)?;
    set(&dict, "rewards", &columns.rewards)?;
    set(&dict, "micro_batches", &columns.micro_batches)?;
    let plan = serde_json::to_string(&handed.plan)
        .map_err(|error| usage(format!("writing the plan as JSON: {error}")))?;
    dict.set_item("plan", plan)?;
    dict.set_item("changed", handed.changed)?;
    dict.set_item("steps", handed.steps)?;
    let shapes = PyDict::new(py);
    for spec in &handed.specs {
        shapes.set_item(spec.name(), spec.shape().to_vec())?;
    }
    dict.set_item("shapes", shapes)?;
    Ok(dict)
}

fn set<T: Number>(dict: &Bound<'_, PyDict>, name: &str, values: &[T]) -> PyResult<()> {
    dict.set_item(name, outgoing(dict.py(), values)?)
}

//! Comparison of the M2PO loss, its gradient, and AdamW's steps.

use serde::Deserialize;
use vintage_control::OptimizerSettings;
use vintage_m2po::{Rule, Stats};
use vintage_model::{Gradients, ParamSet, Targets};

use super::batch::Batch;
use super::machine::{Machine, Updated, Weighing};
use super::oracle::{Oracle, Tensors};
use super::steps::Run;
use super::{Difference, Measure, Mismatches, Report, tolerance};
use crate::error::Result;

/// Variants of weight decay: the name that files and logs have for it, and true if vectors decay.
const DECAYS: [(&str, bool); 2] = [("2d", false), ("all", true)];

#[derive(Deserialize)]
struct Expected {
    tau: f64,
    adamw: Optimizer,
    loss: f64,
    grad_norm: f64,
    m2po: Counts,
    #[serde(default)]
    steps_decay_2d: Vec<Step>,
    #[serde(default)]
    steps_decay_all: Vec<Step>,
}

#[derive(Deserialize)]
struct Optimizer {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    clip: f64,
}

#[derive(Deserialize)]
pub(super) struct Counts {
    #[serde(rename = "n_valid")]
    valid: usize,
    #[serde(rename = "n_trust")]
    trust: usize,
    #[serde(rename = "n_masked")]
    masked: usize,
}

#[derive(Deserialize)]
pub(super) struct Step {
    #[serde(rename = "step")]
    pub(super) number: u64,
    pub(super) loss: f64,
    pub(super) grad_norm: f64,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

impl Optimizer {
    fn settings(&self, decay_vectors: bool) -> OptimizerSettings {
        OptimizerSettings {
            lr: self.lr,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            decay_vectors,
            grad_clip: self.clip,
        }
    }
}

pub(super) fn compare<M: Machine>(oracle: &Oracle, machine: &M, report: &mut Report) -> Result<()> {
    let batch = oracle.tensors("m2po_batch.safetensors")?;
    let expected = oracle.json::<Expected>("m2po.json")?;
    let (Some(tensors), Some(expected)) = (batch, expected) else {
        report.absent("m2po_batch.safetensors or m2po.json");
        return Ok(());
    };
    let task = Task::new(&tensors, expected.tau)?;
    let (first, gradient) = task.update(machine)?;
    task.compare_first(&tensors, &expected, &first, report)?;
    let mut norm = Difference::default();
    norm.see(M::norm(&gradient)?, expected.grad_norm, String::new);
    let bound = ("grad_norm_rel", tolerance::NORM);
    report.add(
        "gradient_norm",
        Measure::Relative,
        bound,
        norm.relative(),
        &norm,
    );

    let stored = oracle.tensors("m2po_grad.safetensors")?;
    match &stored {
        None => report.absent("m2po_grad.safetensors"),
        Some(stored) => {
            compare_gradients(stored, &M::into_host(gradient)?, machine.params(), report)?;
        }
    }
    for (decay, vectors) in DECAYS {
        let settings = expected.adamw.settings(vectors);
        let log = if vectors {
            &expected.steps_decay_all
        } else {
            &expected.steps_decay_2d
        };
        let run = Run {
            decay,
            settings,
            log,
        };
        run.compare(oracle, &task, machine, report)?;
        if let Some(stored) = &stored {
            run.compare_alone(oracle, stored, machine, report)?;
        }
    }
    Ok(())
}

/// Batch that is weighed and stepped on repeatedly.
pub(super) struct Task {
    batch: Batch,
    /// Padded positions from the first trained token to the last one, of every row.
    places: Vec<usize>,
    targets: Targets,
    valid: Vec<bool>,
    behavior: Vec<f32>,
    advantage: Vec<f32>,
    rule: Rule,
}

impl Task {
    fn new(tensors: &Tensors, tau: f64) -> Result<Self> {
        let batch = Batch::new(tensors)?;
        let [rows, columns] = batch.shape;
        let mask = tensors.shaped("loss_mask", &batch.shape)?;
        let behavior = tensors.shaped("behav_logprobs", &batch.shape)?;
        let advantages = tensors.shaped("advantages", &[rows])?;
        let mut places = Vec::new();
        for row in 0..rows {
            let trains = |place: &usize| mask[*place] != 0.0;
            let mut row = row * columns..(row + 1) * columns;
            // Untrained tokens in between, such as tool output, are targets that do not train.
            if let Some(first) = row.find(trains) {
                let last = row.rfind(trains).unwrap_or(first);
                places.extend(first..=last);
            }
        }
        Ok(Self {
            targets: batch.targets(&places, 1.0, tensors, "loss_mask")?,
            valid: places.iter().map(|&place| mask[place] != 0.0).collect(),
            behavior: places.iter().map(|&place| behavior[place] as f32).collect(),
            advantage: places
                .iter()
                .map(|&place| advantages[place / columns] as f32)
                .collect(),
            places,
            batch,
            rule: Rule::M2poPaper { tau },
        })
    }

    /// Weighs the batch and computes the gradient of its loss.
    pub(super) fn update<M: Machine>(&self, machine: &M) -> Result<(Updated, M::Gradient)> {
        machine.update(&Weighing {
            packed: &self.batch.packed,
            targets: &self.targets,
            behavior: &self.behavior,
            advantage: &self.advantage,
            valid: &self.valid,
            rule: &self.rule,
        })
    }

    fn compare_first(
        &self,
        tensors: &Tensors,
        expected: &Expected,
        first: &Updated,
        report: &mut Report,
    ) -> Result<()> {
        let log_probs = tensors.shaped("expect_new_logprobs", &self.batch.shape)?;
        let keep = tensors.shaped("expect_keep", &self.batch.shape)?;
        let (mut log_prob, mut kept) = (Difference::default(), Mismatches::default());
        for (at, &place) in self.places.iter().enumerate() {
            let describe = self.batch.describe(place);
            kept.see(&first.mask[at], &(keep[place] != 0.0), &describe);
            if self.valid[at] {
                let found = f64::from(first.log_probs[at]);
                log_prob.see(found, log_probs[place], || describe);
            }
        }
        let bound = ("logprobs_t1.0_max_abs", tolerance::LOGPROBS);
        report.absolute("m2po_logprobs", bound, &log_prob);
        report.equal("keep_mask", kept);
        let mut counts = Mismatches::default();
        expected
            .m2po
            .compare(&first.stats, "first update", &mut counts);
        report.equal("counts", counts);
        let mut loss = Difference::default();
        loss.see(first.loss, expected.loss, String::new);
        report.absolute("loss", ("loss_abs", tolerance::LOSS), &loss);
        Ok(())
    }
}

impl Counts {
    pub(super) fn compare(&self, stats: &Stats, place: &str, seen: &mut Mismatches) {
        for (name, found, expected) in [
            ("n_valid", stats.n_valid, self.valid),
            ("n_trust", stats.n_trust, self.trust),
            ("n_masked", stats.n_masked, self.masked),
        ] {
            seen.see(&(found as usize), &expected, &format!("{place}, {name}"));
        }
    }
}

fn compare_gradients(
    stored: &Tensors,
    gradients: &Gradients,
    params: &ParamSet,
    report: &mut Report,
) -> Result<()> {
    let (mut l2, mut maximum) = (ByTensor::default(), ByTensor::default());
    let mut names = Mismatches::default();
    for (name, _) in stored.iter() {
        names.see(&params.get(name).is_some(), &true, name);
    }
    for spec in params.specs() {
        let name = spec.name();
        names.see(&stored.find(name).is_some(), &true, name);
        let (Some(found), Some(_)) = (gradients.get(name), stored.find(name)) else {
            continue;
        };
        let expected = stored.shaped(name, spec.shape())?;
        let (mut square, mut expected_square) = (0.0, 0.0);
        let mut largest = Difference::default();
        for (&found, &expected) in found.iter().zip(expected) {
            let found = f64::from(found);
            largest.see(found, expected, String::new);
            square += (found - expected).powi(2);
            expected_square += expected * expected;
        }
        let relative = if square == 0.0 {
            0.0
        } else {
            (square / expected_square).sqrt()
        };
        l2.see(name, relative, &largest);
        maximum.see(name, largest.relative(), &largest);
    }
    report.equal("gradient_names", names);
    let bound = ("grad_rel_l2_worst_tensor", tolerance::GRADIENT);
    report.add("gradient", Measure::L2, bound, l2.worst, &l2.of);
    let bound = ("grad_max_abs_over_tensor_max", tolerance::GRADIENT);
    report.add(
        "gradient",
        Measure::Maximum,
        bound,
        maximum.worst,
        &maximum.of,
    );
    Ok(())
}

/// Worst tensor by one measure, with the differences over all tensors.
#[derive(Default)]
struct ByTensor {
    worst: f64,
    of: Difference,
}

impl ByTensor {
    fn see(&mut self, name: &str, error: f64, of: &Difference) {
        self.of.compared += of.compared;
        self.of.magnitude = self.of.magnitude.max(of.magnitude);
        self.of.absolute = self.of.absolute.max(of.absolute);
        if error > self.worst || (error.is_nan() && !self.worst.is_nan()) {
            self.worst = error;
            self.of.worst = Some(name.to_owned());
        }
    }
}

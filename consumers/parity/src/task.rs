//! Batch of the comparison of training, and its first update.

use vintage_losses::Rule;
use vintage_model::Targets;

use crate::{
    batch::Batch,
    difference::{Difference, Mismatches},
    error::Result,
    expected::Expected,
    machine::{Machine, Updated, Weighing},
    oracle::Tensors,
    report::ParityReport,
    tolerance,
};

/// Batch that is weighed and stepped on repeatedly.
pub(crate) struct Task {
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
    pub(crate) fn new(tensors: &Tensors, tau: f64) -> Result<Self> {
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
    pub(crate) fn update<M: Machine>(&self, machine: &M) -> Result<(Updated, M::Gradient)> {
        machine.update(&Weighing {
            packed: &self.batch.packed,
            targets: &self.targets,
            behavior: &self.behavior,
            advantage: &self.advantage,
            valid: &self.valid,
            rule: &self.rule,
        })
    }

    pub(crate) fn compare_first(
        &self,
        tensors: &Tensors,
        expected: &Expected,
        first: &Updated,
        report: &mut ParityReport,
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

//! Comparison of the M2PO loss, its gradient, and AdamW's steps.

use vintage_model::{Gradients, ParamSet};

use crate::{
    difference::{Difference, Mismatches},
    error::Result,
    expected::Expected,
    machine::Machine,
    oracle::{Oracle, Tensors},
    report::{Measure, ParityReport},
    steps::Run,
    task::Task,
    tolerance,
};

/// Variants of weight decay: the name that files and logs have for it, and true if vectors decay.
const DECAYS: [(&str, bool); 2] = [("2d", false), ("all", true)];

pub(super) fn compare<M: Machine>(
    oracle: &Oracle,
    machine: &M,
    report: &mut ParityReport,
) -> Result<()> {
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

fn compare_gradients(
    stored: &Tensors,
    gradients: &Gradients,
    params: &ParamSet,
    report: &mut ParityReport,
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

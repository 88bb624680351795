//! Comparison of the parameters after AdamW's steps.

use vintage_control::OptimizerSettings;
use vintage_model::{Gradients, ParamSet};

use crate::{
    difference::{Difference, Mismatches},
    error::Result,
    expected::Step,
    machine::Machine,
    oracle::{Oracle, Tensors},
    report::{Measure, ParityReport},
    task::Task,
    tolerance,
};

/// Largest difference at which a parameter is not counted as off ([`Measure::Share`]).
const OFF: f64 = 1e-6;

/// Steps on one batch, with their expected results.
pub(super) struct Run<'a> {
    /// Name of the parameters that decay: `2d` or `all`.
    pub(super) decay: &'static str,
    pub(super) settings: OptimizerSettings,
    pub(super) log: &'a [Step],
}

impl Run<'_> {
    /// Compares steps that `machine` takes on its own gradients.
    pub(super) fn compare(
        &self,
        oracle: &Oracle,
        task: &Task,
        machine: &impl Machine,
        report: &mut ParityReport,
    ) -> Result<()> {
        let decay = self.decay;
        let stored = oracle.steps(&self.prefix())?;
        let logged = self.log.iter().map(|step| step.number);
        let Some(last) = logged.chain(stored.iter().copied()).max() else {
            report.absent(&format!("steps_decay_{decay} and {}*", self.prefix()));
            return Ok(());
        };
        if stored.is_empty() {
            report.absent(&format!("{}*.safetensors", self.prefix()));
        }
        let mut machine = machine.again()?;
        let (mut loss, mut norm) = <(Difference, Relative)>::default();
        let mut counts = Mismatches::default();
        let mut after = Vec::new();
        for step in 1..=last {
            let (updated, gradient) = task.update(&machine)?;
            let found = machine.step(&self.settings, &gradient)?;
            if let Some(expected) = self.log.iter().find(|logged| logged.number == step) {
                let place = || format!("step {step}");
                loss.see(updated.loss, expected.loss, place);
                norm.see(found, expected.grad_norm, place);
                expected
                    .counts
                    .compare(&updated.stats, &place(), &mut counts);
            }
            if stored.contains(&step)
                && let Some(expected) = oracle.tensors(&self.file(step))?
            {
                after.push((step, Parameters::new(machine.params(), &expected)?));
            }
        }
        if self.log.is_empty() {
            report.absent(&format!("m2po.json: steps_decay_{decay}"));
        } else {
            let key = format!("adamw_{decay}_loss_abs_worst");
            report.absolute(
                format!("adamw_{decay}_loss"),
                (&key, tolerance::LOSS),
                &loss,
            );
            let key = format!("adamw_{decay}_grad_norm_rel_worst");
            let bound = (key.as_str(), tolerance::LATER_NORM);
            let name = format!("adamw_{decay}_gradient_norm");
            report.add(name, Measure::Relative, bound, norm.error, &norm.of);
            report.equal(format!("adamw_{decay}_counts"), counts);
        }
        for (step, parameters) in after {
            let name = format!("adamw_{decay}_step{step}");
            parameters.report(&name, self.settings.lr, report);
        }
        Ok(())
    }

    /// Compares the first step on the stored gradient, which tests AdamW without the model.
    pub(super) fn compare_alone(
        &self,
        oracle: &Oracle,
        stored: &Tensors,
        machine: &impl Machine,
        report: &mut ParityReport,
    ) -> Result<()> {
        let Some(expected) = oracle.tensors(&self.file(1))? else {
            report.absent(&self.file(1));
            return Ok(());
        };
        let mut machine = machine.again()?;
        let mut gradients = Gradients::zeros_like(machine.params())?;
        gradients.update(|name, values| {
            let stored = stored
                .find(name)
                .into_iter()
                .flat_map(|table| &table.values);
            for (value, &stored) in values.iter_mut().zip(stored) {
                *value = stored as f32;
            }
        })?;
        let gradient = machine.take(gradients)?;
        machine.step(&self.settings, &gradient)?;
        let found = Parameters::new(machine.params(), &expected)?;
        let name = format!("adamw_{}_alone", self.decay);
        report.absolute(name, ("", tolerance::ADAMW), &found.difference);
        Ok(())
    }

    fn prefix(&self) -> String {
        format!("adamw_decay_{}_step", self.decay)
    }

    fn file(&self, step: u64) -> String {
        format!("{}{step}.safetensors", self.prefix())
    }
}

/// Largest relative difference of numbers that are compared one by one.
#[derive(Default)]
struct Relative {
    error: f64,
    of: Difference,
}

impl Relative {
    fn see(&mut self, found: f64, expected: f64, place: impl Fn() -> String) {
        let mut one = Difference::default();
        one.see(found, expected, &place);
        let error = one.relative();
        self.of.see(found, expected, &place);
        if error > self.error || (error.is_nan() && !self.error.is_nan()) {
            self.error = error;
            self.of.worst = Some(place());
        }
    }
}

/// Differences of the parameters from the expected ones.
struct Parameters {
    difference: Difference,
    /// Absolute differences, ascending.
    errors: Vec<f64>,
}

impl Parameters {
    fn new(found: &ParamSet, expected: &Tensors) -> Result<Self> {
        let mut difference = Difference::default();
        let mut errors = Vec::with_capacity(found.parameter_count());
        for spec in found.specs() {
            let name = spec.name();
            let expected = expected.shaped(name, spec.shape())?;
            let found = found.values(name);
            let found = found.iter().flat_map(|values| values.iter());
            for (at, (&found, &expected)) in found.zip(expected).enumerate() {
                let found = f64::from(found);
                errors.push((found - expected).abs());
                difference.see(found, expected, || format!("{name}, value {at}"));
            }
        }
        errors.sort_by(f64::total_cmp);
        Ok(Self { difference, errors })
    }

    /// Reports the percentile, the fraction that is off, and the largest difference. The last may
    /// be a whole step: where a gradient is near AdamW's epsilon, its last bit decides the step.
    fn report(&self, name: &str, lr: f64, report: &mut ParityReport) {
        let count = self.errors.len();
        let rank = (0.999 * count as f64).ceil() as usize;
        let p999 = self.errors.get(rank.saturating_sub(1)).copied();
        let off = count - self.errors.partition_point(|error| *error <= OFF);
        let share = off as f64 / count.max(1) as f64;
        for (measure, key, ours, error) in [
            (
                Measure::P999,
                "p999",
                tolerance::STEP_P999,
                p999.unwrap_or(f64::NAN),
            ),
            (
                Measure::Share,
                "share_over_1e6",
                tolerance::STEP_SHARE,
                share,
            ),
            (Measure::Absolute, "max_abs", lr, self.difference.absolute),
        ] {
            let key = format!("{name}.{key}");
            report.add(name, measure, (&key, ours), error, &self.difference);
        }
    }
}

//! A learner on a recorded log. Its plans are a pure function of the log and the seed, so it must
//! end with the same weights wherever it was killed.

use std::{collections::VecDeque, sync::mpsc::channel};

use anyhow::{Context, Result, ensure};
use vintage_control::{Plan, Sha256};

use super::{
    Blow, Breach, Order, Outcome, Stage, Who,
    check::{plans, results},
    stage::killed,
};
use crate::{run, vintage};

/// Number of updates of the run that records the log, more than the orders of an episode need.
const RECORDED: u64 = 40;

/// Records a log on `stage`, then trains from it twice: once undisturbed, and once killed at each
/// order in turn. The log may end before the last orders are reached. Compares plans and weights.
pub fn recorded(stage: &Stage, orders: VecDeque<Order>) -> Result<Outcome> {
    let log = stage.beside(
        "log",
        &[&format!("learner.steps={RECORDED}"), "broker=embedded"],
    );
    let mut record = vintage(["run", "--output", "json", "--out"]);
    record.arg(log.run());
    log.set(&mut record);
    run(record)?.json().context("recording a log")?;
    let source = format!("learner.archive={}", log.run().display());
    let source = ["learner.source=archive", &source];

    let calm = stage.beside("calm", &source);
    learn(&calm, VecDeque::new())?;
    let struck = stage.beside("struck", &source);
    let blows = learn(&struck, orders)?;
    let mut outcome = Outcome {
        blows,
        ..Outcome::default()
    };
    let (undisturbed, killed) = (story(&calm)?, story(&struck)?);
    ensure!(undisturbed.len() > 10, "{} updates", undisturbed.len());
    if undisturbed != killed {
        let same = undisturbed.iter().zip(&killed);
        let first = same.take_while(|(one, other)| one == other).count();
        let why = format!(
            "a recorded log of {} updates; killed, {} updates, the first that differs is {first}",
            undisturbed.len(),
            killed.len()
        );
        outcome.findings.push((Breach::Diverging, why));
    }
    Ok(outcome)
}

/// Trains until the log ends, killed once per order. Returns the kills.
fn learn(stage: &Stage, mut orders: VecDeque<Order>) -> Result<Vec<Blow>> {
    let (on_end, _nobody_asks) = channel();
    let mut blows = Vec::new();
    for number in 0.. {
        let order = orders.pop_front();
        let faults = order.as_ref().map_or(String::new(), Order::faults);
        let mut process = stage.start(Who::Learner, number, &faults, &on_end)?;
        let status = process.reap()?;
        if !killed(status) {
            ensure!(status.success(), "{status}:\n{}", process.said());
            break;
        }
        let strike = process.strike()?.context("killed at no point")?;
        blows.push(Blow {
            at: strike.point,
            in_hand: Some(strike.in_hand),
            ..Blow::at_random("learn, recorded")
        });
    }
    Ok(blows)
}

/// Returns every plan without its writer, and the weights after it.
fn story(stage: &Stage) -> Result<Vec<(Plan, Sha256)>> {
    let plans = plans(&stage.run())?.into_iter().map(|plan| Plan {
        writer: String::new(),
        ..plan
    });
    let results = results(&stage.run())?;
    Ok(plans
        .zip(results.into_iter().map(|result| result.weights_sha256))
        .collect())
}

//! `vintage parity`: compares models with another implementation's results.
use std::fmt::Write as _;
use vintage_human::grouped;

use anyhow::{Context as _, Result};
use tokio::task::spawn_blocking;
use vintage_parity::{Compared, Measure, Parity, compare};

use super::Context;
use crate::{
    args::ParityArgs,
    exit::{CommandOutcome, Usage},
    output::table,
};

/// Runs `vintage parity DIR`.
pub(crate) async fn parity(args: &ParityArgs, context: &Context) -> Result<CommandOutcome> {
    let (folder, place) = (args.folder.clone(), args.device);
    let parity = spawn_blocking(move || compare(&folder, place))
        .await
        .context("comparing the models panicked")?
        .map_err(|error| Usage::new(error.to_string()))?;
    context.output.print(&parity, text)?;
    Ok(if parity.holds {
        CommandOutcome::Done
    } else {
        CommandOutcome::Negative
    })
}

fn text(parity: &Parity) -> String {
    let mut text: String = parity.models.iter().map(model).collect();
    for name in &parity.without_oracle {
        let _ = writeln!(
            text,
            "note: {name} has no {name}.oracle beside it and was not compared"
        );
    }
    for oracle in &parity.without_model {
        let name = oracle.trim_end_matches(".oracle");
        let _ = writeln!(
            text,
            "error: {oracle} has no model {name} beside it (a folder with a config.json): it was \
             made for one"
        );
    }
    text += match (parity.holds, parity.whole) {
        (true, true) => "All within bounds.\n",
        (true, false) => {
            "All that was compared is within bounds; the notes say what was not compared.\n"
        }
        (false, _) => "Not all within bounds.\n",
    };
    text
}

fn model(model: &Compared) -> String {
    let family = model.model_type.unwrap_or("unknown family");
    let mut text = format!(
        "{} ({family}, {} parameters, {:.1} s)\n",
        model.name,
        grouped(model.parameters as u64),
        model.seconds
    );
    let rows = model.quantities.iter().map(|quantity| {
        let number = |value: f64| match quantity.measure {
            Measure::Different => format!("{value}"),
            _ => format!("{value:.1e}"),
        };
        let worst = quantity.worst.as_deref().filter(|_| !quantity.holds);
        vec![
            quantity.name.clone(),
            measure(quantity.measure).to_owned(),
            number(quantity.error),
            number(quantity.tolerance),
            quantity.relative.map_or_else(String::new, number),
            grouped(quantity.compared),
            if quantity.holds { "ok" } else { "OUT" }.to_owned(),
            worst.unwrap_or_default().to_owned(),
        ]
    });
    let head = [
        "quantity", "measure", "error", "bound", "relative", "values", "", "",
    ];
    text += &table(&head, &rows.collect::<Vec<_>>());
    for absent in &model.absent {
        let _ = writeln!(text, "note: the oracle has no {absent}");
    }
    if let Some(error) = &model.error {
        let _ = writeln!(text, "error: {error}");
    }
    text + "\n"
}

fn measure(measure: Measure) -> &'static str {
    match measure {
        Measure::Absolute => "largest",
        Measure::Relative => "relative",
        Measure::L2 => "L2, by tensor",
        Measure::Maximum => "largest, by tensor",
        Measure::P999 => "99.9 %",
        Measure::Share => "share over 1e-6",
        Measure::Different => "different",
    }
}

//! `vintage bench update`: measures the cost of an update, on a CPU or a GPU.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::spawn_blocking;
use vintage_bench::update::{self, SMALL, Shape, Updates};
use vintage_flow::devices;
use vintage_human::grouped;
use vintage_learner::DecoderConfig;
use vintage_settings::Device;

use crate::{
    allocator,
    args::UpdateBenchArgs,
    commands::Context,
    exit::Usage,
    output::{bytes, table},
};

/// Output of `vintage bench update`: device, shape and measurements.
#[derive(Serialize)]
struct UpdateReport {
    device: String,
    shape: Shape,
    updates: Vec<Updates>,
}

/// Measures updates in f32, then in bf16.
pub(crate) async fn update(args: &UpdateBenchArgs, context: &Context) -> Result<()> {
    let config = match &args.model {
        None => SMALL.as_bytes().to_vec(),
        Some(folder) => {
            let path = folder.join("config.json");
            std::fs::read(&path)
                .map_err(|error| Usage::new(format!("cannot read {}: {error}", path.display())))?
        }
    };
    let config =
        DecoderConfig::from_json(&config).map_err(|error| Usage::new(error.to_string()))?;
    let shape = Shape {
        rows: args.rows,
        group: args.group,
        prompt_tokens: args.prompt,
        completion_tokens: args.completion,
        micro_batch_tokens: args.micro_batch_tokens,
        updates: args.updates,
    };
    if [
        args.rows,
        args.group,
        args.prompt,
        args.completion,
        args.updates,
    ]
    .contains(&0)
    {
        let message = "rows, group, prompt, completion and updates must be at least 1";
        return Err(Usage::new(message).into());
    }
    // As a learner of a user's model does.
    allocator::give_back_soon();
    let (device, recompute, python) = (args.device, args.recompute, args.python.clone());
    let report =
        spawn_blocking(move || measure(&config, device, shape, recompute, python.as_deref()));
    let report = report.await.context("measuring panicked")??;
    context.output.print(&report, text)
}

fn measure(
    config: &DecoderConfig,
    device: Device,
    shape: Shape,
    recompute: bool,
    python: Option<&Path>,
) -> Result<UpdateReport> {
    let gpu = devices().describe(device);
    let gpu = gpu.map_err(|error| Usage::new(error.to_string()))?;
    Ok(UpdateReport {
        device: gpu.unwrap_or_else(|| device.to_string()),
        shape,
        updates: update::measure(config, device, shape, recompute, devices(), python)?,
    })
}

fn name(updates: &Updates) -> String {
    format!("{:?}", updates.compute).to_lowercase()
}

fn text(report: &UpdateReport) -> String {
    let rows = report.updates.iter().map(|updates| {
        vec![
            name(updates),
            grouped(updates.tokens_per_second as u64),
            format!("{:.3}", updates.rounds.seconds),
            format!("{:.2} %", 100.0 * updates.rule_share),
            updates.peak_bytes.map_or_else(|| "-".to_owned(), bytes),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = [
        "products",
        "tokens/s",
        "s an update",
        "M2PO's share",
        "GPU's peak",
    ];
    let (parameters, tokens, parts) = report.updates.first().map_or((0, 0, 0), |first| {
        (first.parameters, first.tokens, first.micro_batches)
    });
    let beside = report.updates.iter().filter_map(|updates| {
        let theirs = updates.pytorch.as_ref()?;
        let (least, most) = theirs.ratio.ratio_range;
        let memory = theirs.peak_bytes.map(bytes);
        Some(format!(
            "\nPyTorch {} (transformers {}, {}), {} threads: {:.3} s an update in {}, {:.2} times as \
             long as here ({least:.2} to {most:.2}; CPU {}){}\n",
            theirs.versions.torch,
            theirs.versions.transformers,
            theirs.versions.attention,
            theirs.threads,
            theirs.rounds.seconds,
            name(updates),
            theirs.ratio.ratio,
            theirs.ratio.cpu_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            memory.map_or_else(String::new, |memory| format!(", GPU's peak {memory}")),
        ))
    });
    let beside: String = beside.collect();
    format!(
        "{}: {} parameters, {} tokens an update in {parts} micro-batches, median of {}\n{}{}",
        report.device,
        grouped(parameters as u64),
        grouped(tokens as u64),
        report.shape.updates,
        table(&head, &rows),
        beside,
    )
}

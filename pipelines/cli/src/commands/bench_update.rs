//! `vintage bench update`: measures the cost of an update, on a CPU or a GPU.

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::spawn_blocking;
use vintage_control::{Precision, Training};
use vintage_learner::{BenchShape, ModelConfig, Place, Updates, bench_updates};

use super::Context;
use crate::{
    args::UpdateBenchArgs,
    exit::Usage,
    output::{bytes, grouped, table},
};

/// Default model, of the size that two cores update in a second.
const SMALL: &str = r#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 256,
    "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 4096, "tie_word_embeddings": false, "hidden_act": "silu"}"#;

/// Results of the benchmark.
#[derive(Serialize)]
struct Report {
    device: String,
    shape: BenchShape,
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
    let config = ModelConfig::from_json(&config).map_err(|error| Usage::new(error.to_string()))?;
    let shape = BenchShape {
        rows: args.rows,
        prompt_tokens: args.prompt,
        completion_tokens: args.completion,
        micro_batch_tokens: args.micro_batch_tokens,
        updates: args.updates,
    };
    if [args.rows, args.prompt, args.completion, args.updates].contains(&0) {
        return Err(Usage::new("rows, prompt, completion and updates must be at least 1").into());
    }
    let (place, recompute) = (args.device, args.recompute);
    let report = spawn_blocking(move || measure(&config, place, shape, recompute));
    let report = report.await.context("measuring panicked")??;
    context.output.print(&report, text)
}

fn measure(
    config: &ModelConfig,
    place: Place,
    shape: BenchShape,
    recompute: bool,
) -> Result<Report> {
    let card = place
        .card()
        .map_err(|error| Usage::new(error.to_string()))?;
    let updates = [Precision::F32, Precision::Bf16].map(|compute| {
        let training = Training {
            compute,
            recompute,
            lora: None,
        };
        bench_updates(config, place, shape, &training)
    });
    Ok(Report {
        device: card.map_or_else(|| place.to_string(), |card| card.to_string()),
        shape,
        updates: updates.into_iter().collect::<Result<_, _>>()?,
    })
}

fn text(report: &Report) -> String {
    let rows = report.updates.iter().map(|updates| {
        vec![
            format!("{:?}", updates.compute).to_lowercase(),
            grouped(updates.tokens_per_second as u64),
            format!("{:.3}", updates.seconds),
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
        "card's peak",
    ];
    let (parameters, tokens, parts) = report.updates.first().map_or((0, 0, 0), |first| {
        (first.parameters, first.tokens, first.micro_batches)
    });
    format!(
        "{}: {} parameters, {} tokens an update in {parts} micro-batches, median of {}\n{}",
        report.device,
        grouped(parameters as u64),
        grouped(tokens as u64),
        report.shape.updates,
        table(&head, &rows),
    )
}

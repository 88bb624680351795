//! `vintage bench publish`: what a version costs to publish and to fetch.

use anyhow::Result;
use vintage_bench::{
    publish::{Form, HALF_BILLION, Published, Settings, measure},
    update::SMALL,
};
use vintage_human::grouped;
use vintage_learner::DecoderConfig;

use crate::{
    args::{PublishBenchArgs, PublishBenchShape},
    commands::Context,
    exit::{CommandOutcome, Signal, Usage},
    output::{bytes, table},
};

/// Measures a version of every learning rate. A signal ends it.
pub(crate) async fn publish(args: &PublishBenchArgs, context: &Context) -> Result<CommandOutcome> {
    let config = match args.shape {
        PublishBenchShape::Small => SMALL,
        PublishBenchShape::HalfBillion => HALF_BILLION,
    };
    let config = DecoderConfig::from_json(config.as_bytes())?;
    if args.rows == 0 || args.tokens < 2 || args.lr.iter().any(|lr| !(*lr > 0.0 && *lr < 1.0)) {
        let what = "rows must be at least 1, tokens at least 2, and rates above 0 and below 1";
        return Err(Usage::new(what).into());
    }
    let asked = args.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let of_rate = |&lr: &f64| {
            let settings = Settings {
                lr,
                warmup: asked.warmup,
                rows: asked.rows,
                tokens: asked.tokens,
            };
            measure(&config, settings, |what| {
                tracing::info!("lr {lr:e}: {what}");
            })
        };
        asked.lr.iter().map(of_rate).collect::<Result<Vec<_>, _>>()
    });
    let published = tokio::select! {
        measured = measured => measured??,
        () = context.signals.stop.cancelled() => {
            let signal = context.signals.received().unwrap_or(Signal::Interrupt);
            return Ok(CommandOutcome::Interrupted(signal));
        }
    };
    context.output.print(&published, |all| text(all))?;
    Ok(CommandOutcome::Done)
}

fn text(published: &[Published]) -> String {
    let head = ["values", "form", "bytes", "of f32", "encode s", "decode s"];
    let one = |of: &Published| {
        let whole = of.precisions.first().and_then(|of| of.forms.first());
        let whole = whole.map_or(1, |form| form.bytes);
        let row = |precision: &str, form: &Form| {
            vec![
                precision.to_owned(),
                form.name.to_owned(),
                bytes(form.bytes),
                format!("{:.2} %", 100.0 * form.bytes as f64 / whole as f64),
                format!("{:.2}", form.encode_seconds),
                form.decode_seconds
                    .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}")),
            ]
        };
        let rows = of.precisions.iter().flat_map(|of| {
            let name = format!("{:?}", of.precision).to_lowercase();
            of.forms.iter().map(move |form| row(&name, form))
        });
        let rows: Vec<_> = rows.collect();
        let changed = of.precisions.iter().map(|of| {
            let name = format!("{:?}", of.precision).to_lowercase();
            format!("{:.2} % in {name}", 100.0 * of.changed)
        });
        format!(
            "{} parameters, lr {:e}, update {}: {} of the values changed\n{}",
            grouped(of.parameters as u64),
            of.training.lr,
            of.training.warmup + 1,
            changed.collect::<Vec<_>>().join(", "),
            table(&head, &rows),
        )
    };
    published.iter().map(one).collect::<Vec<_>>().join("\n")
}

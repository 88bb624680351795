//! `vintage eval`: evaluates a model, or versions of a run's policy.

use std::fmt::Write as _;

use anyhow::Result;
use vintage_control::PolicyVersion;
use vintage_flow::eval::{
    EvalRequest, Evaluation, Followed, Score, eval as evaluate, follow, settings_of,
};
use vintage_human::Measured;
use vintage_settings::RunConfig;

use super::Context;
use crate::{
    args::EvalArgs,
    exit::{CommandOutcome, Usage},
    output::table,
    progress::evaluation_line,
};

/// Runs `vintage eval RUN|MODEL`.
pub(crate) async fn eval(args: &EvalArgs, context: &Context) -> Result<CommandOutcome> {
    let recorded = settings_of(&args.what, args.name.as_ref()).await?;
    if args.follow && recorded.is_none() {
        return Err(
            Usage::new("--follow needs a run, whose versions it evaluates as they appear").into(),
        );
    }
    let path = |path: &std::path::Path| path.display().to_string();
    let model = recorded.is_none().then(|| path(&args.what));
    let prompts = args.prompts.as_deref().map(path);
    let flags = [
        ("MODEL", "model.path", model),
        ("--prompts", "prompts.heldout", prompts),
    ];
    let resolved = args.config.resolve(recorded.as_deref(), &flags)?;
    if args.follow {
        return follow_run(args, &resolved.config, context).await;
    }
    let request = EvalRequest {
        what: args.what.clone(),
        learner: args.name.clone(),
        versions: args
            .policy_version
            .iter()
            .copied()
            .map(PolicyVersion)
            .collect(),
        count: args.count,
        samples: args.samples,
        temperature: args.temperature,
    };
    let (events, shown) = context.progress(0);
    let stop = &context.signals.stop;
    let evaluation = evaluate(&request, &resolved.config, stop, &events).await;
    drop(events);
    shown.await?;
    context.output.print(&evaluation?, text)?;
    Ok(CommandOutcome::Done)
}

async fn follow_run(
    args: &EvalArgs,
    config: &RunConfig,
    context: &Context,
) -> Result<CommandOutcome> {
    let (events, shown) = context.progress(0);
    let followed = follow(&args.what, config, &context.signals.stop, &events).await;
    drop(events);
    shown.await?;
    let followed = followed?;
    context.output.print(&followed, followed_text)?;
    Ok(match context.signals.received() {
        Some(signal) if !followed.finished => CommandOutcome::Interrupted(signal),
        _ => CommandOutcome::Done,
    })
}

fn followed_text(followed: &Followed) -> String {
    let Followed {
        policy, evaluated, ..
    } = followed;
    let mut text = format!("{evaluated} versions of policy {policy} evaluated\n");
    if let Some(last) = &followed.last {
        let measured = Measured::of(followed.judged_by_program);
        let _infallible = writeln!(text, "{}", evaluation_line(last, measured));
    }
    if let [first, ..] = &followed.missing[..] {
        let _infallible = writeln!(
            text,
            "note: {} versions that were due are not in the store, the first of them {first}",
            followed.missing.len()
        );
    }
    text
}

fn text(evaluation: &Evaluation) -> String {
    let is_accuracy = |score: &Score| score.is_accuracy;
    let shares = evaluation
        .versions
        .iter()
        .all(|of| is_accuracy(&of.greedy) && is_accuracy(&of.sampled));
    let cell = |score: &Score| {
        let (low, high) = (score.interval.low, score.interval.high);
        if shares {
            let [mean, low, high] = [score.mean, low, high].map(|share| 100.0 * share);
            format!("{mean:.1} % ({low:.1} to {high:.1})")
        } else {
            format!("{:.3} ({low:.3} to {high:.3})", score.mean)
        }
    };
    let mut head = vec!["version".to_owned(), "greedy".to_owned()];
    head.push(format!("mean of {}", evaluation.samples));
    let first = evaluation.versions.first();
    let sizes: Vec<u16> = first
        .map(|of| of.sampled.pass_at.keys().copied())
        .into_iter()
        .flatten()
        .filter(|size| shares && *size > 1)
        .collect();
    head.extend(sizes.iter().map(|size| format!("one of {size}")));
    head.extend(["tokens", "cut off"].map(str::to_owned));
    let rows = evaluation.versions.iter().map(|of| {
        let name = of
            .version
            .map_or_else(|| "model".to_owned(), |version| version.to_string());
        let mut row = vec![name, cell(&of.greedy), cell(&of.sampled)];
        let passed = sizes
            .iter()
            .map(|size| of.sampled.pass_at.get(size).copied().unwrap_or_default());
        row.extend(passed.map(|share| format!("{:.1} %", 100.0 * share)));
        row.push(format!("{:.1}", of.sampled.tokens));
        row.push(format!("{:.1} %", 100.0 * of.sampled.cut));
        row
    });
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    let mut text = table(&head, &rows.collect::<Vec<_>>());
    let what = if shares {
        "right answers"
    } else {
        "mean reward"
    };
    let _infallible = writeln!(
        text,
        "{what} to {} prompts, temperature {}, {} tokens at most; in brackets the 95 % interval over \
         prompts like these",
        evaluation.prompts, evaluation.temperature, evaluation.max_tokens
    );
    text
}

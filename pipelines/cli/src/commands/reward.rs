//! `vintage reward test`: judges completions with the reward of a run.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;
use vintage_flow::{
    eval::settings_of,
    trial::{Origin, Trial, TrialRequest, TriedCompletion, try_reward},
};
use vintage_human::one_line;

use super::Context;
use crate::{
    args::{RewardCommand, RewardTestArgs},
    exit::CommandOutcome,
};

/// Longest completion shown, in characters.
const COMPLETION: usize = 100;

/// Runs `vintage reward`.
pub(crate) async fn reward(command: &RewardCommand, context: &Context) -> Result<CommandOutcome> {
    match command {
        RewardCommand::Test(args) => test(args, context).await,
    }
}

async fn test(args: &RewardTestArgs, context: &Context) -> Result<CommandOutcome> {
    let recorded = match &args.what {
        Some(what) => settings_of(what, None).await?,
        None => None,
    };
    let path = |path: &Path| path.display().to_string();
    let model = args
        .what
        .as_deref()
        .filter(|_| recorded.is_none())
        .map(path);
    let flags = [
        ("MODEL", "model.path", model),
        (
            "--prompts",
            "prompts.train",
            args.prompts.as_deref().map(path),
        ),
    ];
    let resolved = args.config.resolve(recorded.as_deref(), &flags)?;
    let request = TrialRequest {
        what: args.what.clone(),
        count: args.count,
        samples: args.samples,
        completions: args.completion.clone(),
    };
    let (events, shown) = context.progress(0);
    let trial = try_reward(&request, &resolved.config, &context.signals.stop, &events).await;
    drop(events);
    shown.await?;
    let trial = trial?;
    context.output.print(&trial, text)?;
    Ok(if trial.failed > 0 {
        CommandOutcome::Negative
    } else {
        CommandOutcome::Done
    })
}

fn text(trial: &Trial) -> String {
    let mut text = String::new();
    for tried in &trial.prompts {
        let answer = tried.answer.as_deref().map_or_else(
            || "no known answer".to_owned(),
            |answer| format!("known answer {:?}", one_line(answer, COMPLETION)),
        );
        let (file, line) = (tried.file.display(), tried.line);
        let _infallible = writeln!(text, "{file}:{line}, {answer}");
        for line in tried.prompt.lines() {
            let _infallible = writeln!(text, "  | {line}");
        }
        for one in &tried.completions {
            let _infallible = writeln!(text, "  {}", judged(one));
        }
        text.push('\n');
    }
    if trial.failed > 0 {
        let _infallible = writeln!(text, "{} completions got no reward", trial.failed);
    }
    if trial.unrewarded_answers > 0 {
        let _infallible = writeln!(
            text,
            "note: of {} of {} prompts the known answer earns no more than an empty completion; \
             correct, if the reward looks at more than the answer",
            trial.unrewarded_answers,
            trial.prompts.len()
        );
    }
    text
}

fn judged(one: &TriedCompletion) -> String {
    let origin = match one.origin {
        Origin::KnownAnswer => "known answer",
        Origin::Empty => "empty",
        Origin::Given => "given",
        Origin::Sampled => "sampled",
    };
    let tokens = one
        .tokens
        .map_or_else(String::new, |tokens| format!(", {tokens} tokens"));
    let completion = format!("{:?}", one_line(&one.completion, COMPLETION));
    let verdict = match (one.reward, &one.failure) {
        (Some(reward), _) => format!("reward {reward}"),
        (None, why) => format!("no reward: {}", why.as_deref().unwrap_or("no reason given")),
    };
    let parts = one
        .parts
        .iter()
        .flatten()
        .map(|(name, value)| format!("  {name} {value}"));
    format!(
        "{verdict}{}  {origin}{tokens}: {completion}",
        parts.collect::<String>()
    )
}

//! `vintage serve`: serves a model until it is stopped.
use anyhow::Result;
use vintage_control::PolicyVersion;
use vintage_flow::serve::{self, Listening, ServeOptions};

use super::Context;
use crate::{args::ServeArgs, exit::CommandOutcome};

/// Runs `vintage serve RUN|MODEL`; a request to stop is its ordinary end.
pub(crate) async fn serve(args: &ServeArgs, context: &Context) -> Result<CommandOutcome> {
    let options = ServeOptions {
        what: args.what.clone(),
        learner: args.name.clone(),
        version: args.policy_version.map(PolicyVersion),
        model_name: args.model_name.clone(),
        listen: args.listen,
        control: args.control,
        batch_tokens: args.batch_tokens,
    };
    let (events, shown) = context.progress(0);
    let mut printed = Ok(());
    let sampled = serve::serve(&options, &context.signals.stop, &events, |listening| {
        printed = context.output.print(listening, said);
    });
    let sampled = sampled.await;
    drop(events);
    shown.await?;
    let sampled = sampled?;
    printed?;
    tracing::info!("sampled {sampled} completions");
    Ok(CommandOutcome::Done)
}

fn said(listening: &Listening) -> String {
    let Listening {
        url,
        model,
        weight_version,
        ..
    } = listening;
    let control = if listening.control {
        ""
    } else {
        "; its weights cannot be changed"
    };
    format!("model {model} (weights {weight_version}) at {url}{control}\n")
}

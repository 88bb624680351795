use anyhow::Result;
use vintage_flow::{ReplaySummary, replay_exact};

use super::Context;
use crate::{
    args::ReplayArgs,
    exit::Outcome,
    output::{columns, grouped},
};

/// `vintage replay --exact DIR`
pub(crate) async fn replay(args: &ReplayArgs, context: &Context) -> Result<Outcome> {
    let (events, shown) = context.progress(0);
    let replayed = replay_exact(&args.folder, args.learner.as_ref(), &events).await;
    drop(events);
    shown.await?;
    let replayed = replayed?;
    context.output.print(&replayed, text)?;
    Ok(if replayed.identical {
        Outcome::Done
    } else {
        Outcome::Negative
    })
}

fn text(replayed: &ReplaySummary) -> String {
    let mut lines = vec![
        ("updates", grouped(replayed.updates)),
        (
            "identical",
            if replayed.identical { "yes" } else { "no" }.to_owned(),
        ),
        ("weights", replayed.weights_sha256.to_string()),
    ];
    if let Some(deviation) = &replayed.first_deviation {
        lines.push((
            "first difference",
            format!("update {}: {}", deviation.update, deviation.detail),
        ));
        if deviation.other_machine {
            let note = "the plans were made on another machine or build, which need not agree in \
                        bits";
            lines.push(("note", note.to_owned()));
        }
    }
    columns(lines)
}

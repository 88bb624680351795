//! A learner that takes a share of every update from another run's archive.

use anyhow::{Result, ensure};
use serde_json::Value;
use vintage_tests::{number, place, replayed, run};

use crate::small;

const STEPS: u64 = 12;

#[test]
fn a_share_of_every_update_comes_from_the_archive_as_long_as_it_lasts() -> Result<()> {
    let (folder, out) = place()?;
    let source = folder.path().join("source");
    // Eight groups, all archived.
    let mut first = small::digits(folder.path(), &source)?;
    first.args(["--steps", "2", "--seed", "1"]);
    small::finished(first)?;

    let blending = |out: &std::path::Path, steps: u64| {
        let mut command = small::digits(folder.path(), out)?;
        command.args(["--steps", &steps.to_string()]);
        command.args([
            "--set",
            "learner.source=blend",
            "--set",
            "learner.blend_share=0.5",
        ]);
        command.args(["--set", &format!("learner.archive={}", source.display())]);
        anyhow::Ok(command)
    };
    // In two processes: the second resumes in the archive where the first stopped.
    run(blending(&out, 3)?)?.json()?;
    let summary = small::finished(blending(&out, STEPS)?)?;

    let mut live = 0;
    for update in 0..STEPS {
        let plan = std::fs::read_to_string(out.join(format!("plans/lead/{update}.json")))?;
        let plan: Value = serde_json::from_str(&plan)?;
        let groups = plan["groups"].as_array().cloned().unwrap_or_default();
        let archived = groups
            .iter()
            .filter(|group| !group["source"].is_null())
            .count();
        live += groups.len() - archived;
        // Half of four, until the eight are used up; then two from the log alone.
        let expected = if update < 4 { 2 } else { 0 };
        ensure!(
            archived == expected,
            "update {update} took {archived} groups: {plan}"
        );
        ensure!(groups.len() - archived == 2, "update {update}: {plan}");
    }
    ensure!(number(&summary, "trained")? == live as u64, "{summary}");
    let replayed = replayed(&out, STEPS)?;
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed}"
    );

    // The run's own archive holds the same records as the log: each group would be trained twice.
    let mut own = small::digits(folder.path(), &folder.path().join("own"))?;
    own.args(["--set", "learner.source=blend"]);
    let refused = run(own)?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    ensure!(
        refused.stderr.contains("learner.archive"),
        "{}",
        refused.stderr
    );
    Ok(())
}

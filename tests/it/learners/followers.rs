//! Followers beside a running lead, and counterfactuals on its batches.

use anyhow::{Result, ensure};
use serde_json::Value;
use vintage_tests::{Running, number, run, vintage};

use super::{Farm, read};
use crate::roles::interrupt;

const STEPS: u64 = 12;

/// Returns the parts of a plan that are equal for two learners on the same batches.
fn batch(plan: &Value) -> [&Value; 3] {
    [&plan["groups"], &plan["micro_batches"], &plan["rejections"]]
}

#[test]
fn followers_train_beside_the_lead_and_disturb_nobody() -> Result<()> {
    let farm = Farm::new()?;
    let mut lead = Running::start(farm.role("learn", STEPS))?;
    ensure!(lead.says("training")?, "{}", lead.wait()?.stderr);
    let config = farm.out.join("config.toml");
    let settings = read(&config)?;

    // All at the same time: two with batches of their own, two on the lead's.
    let arms = [
        ("own", &[][..]),
        ("latest", &["--start", "latest"]),
        ("same", &["--follow-plans", "lead"]),
        // A clip range so narrow that it clips from the first stale token on.
        (
            "arm",
            &[
                "--follow-plans",
                "lead",
                "--set",
                "algorithm=grpo",
                "--set",
                "grpo.clip_eps=0.0001",
            ],
        ),
    ];
    let mut followers = Vec::new();
    for (name, more) in arms {
        let steps = if name == "latest" { 3 } else { STEPS };
        let mut follower = Running::start(farm.follower(name, steps, more))?;
        // By then it has decided where it begins.
        ensure!(
            follower.says("training")?,
            "{name}: {}",
            follower.wait()?.stderr
        );
        followers.push((name, follower));
    }
    let archive = Running::start(farm.role("archive", STEPS))?;
    let producer = Running::start(farm.role("rollout", STEPS))?;
    let learned = lead.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    producer.wait()?.json()?;
    for (name, follower) in followers {
        let learned = follower.wait()?.json()?;
        ensure!(learned["finished"] == true, "{name}: {learned}");
    }
    interrupt(&archive)?;
    archive.wait()?.json()?;

    let now = read(&config)?;
    ensure!(
        values(&now) == values(&settings),
        "the run's settings changed:\n{now}"
    );
    for name in ["lead", "own", "same", "arm"] {
        farm.replays(name, STEPS)?;
    }
    farm.replays("latest", 3)?;

    // On the same batches the same loss gives the same bits; another loss gives other bits.
    let lead = farm.hashes("lead")?;
    ensure!(
        farm.hashes("same")? == lead,
        "the same batches, other weights"
    );
    let arm = farm.hashes("arm")?;
    ensure!(arm.last() != lead.last(), "another loss, the same weights");
    let plans = farm.numbered("plans", "lead")?;
    for name in ["same", "arm"] {
        for (theirs, own) in plans.iter().zip(farm.numbered("plans", name)?) {
            ensure!(batch(theirs) == batch(&own), "{name}: {own}");
            ensure!(own["follows"] == "lead", "{own}");
        }
    }
    announced(&farm)?;

    let mut report = vintage(["report", "--output", "json"]);
    report.arg(&farm.out);
    let report = run(report)?.json()?;
    let rows = report["learners"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = rows.iter().map(|row| &row["learner"]).collect();
    ensure!(
        names == ["lead", "arm", "latest", "own", "same"],
        "{report}"
    );
    ensure!(
        rows[1]["algorithm"] == "grpo" && rows[1]["follows"] == "lead",
        "{report}"
    );
    ensure!(
        rows[0]["weights_sha256"] == rows[4]["weights_sha256"],
        "{report}"
    );
    let page = read(&farm.out.join("report.html"))?;
    ensure!(
        page.contains("Learners side by side"),
        "no table of the learners"
    );

    late(&farm)?;
    offline(&farm, &lead)
}

/// Checks that learners which start after everything is there read it in the order of time, from
/// the log as from the archive, and not one partition after the other.
fn late(farm: &Farm) -> Result<()> {
    let archived = ["--set", "learner.source=archive"];
    let all = [("late", &[][..]), ("late-archive", &archived)];
    let mut plans = Vec::new();
    for (name, more) in all {
        let learned = run(farm.follower(name, STEPS, more))?.json()?;
        ensure!(learned["finished"] == true, "{name}: {learned}");
        plans.push(farm.numbered("plans", name)?);
    }
    for (log, archive) in plans[0].iter().zip(&plans[1]) {
        ensure!(batch(log) == batch(archive), "{log} {archive}");
    }
    // Records of one millisecond come partition by partition, and there may be many; but not half
    // of the log.
    let half = plans[0].iter().take(STEPS as usize / 2);
    let groups = half.flat_map(|plan| plan["groups"].as_array().into_iter().flatten());
    let partitions = groups.map(|group| group["records"][0]["partition"].to_string());
    let partitions: std::collections::BTreeSet<_> = partitions.collect();
    ensure!(
        partitions.len() > 1,
        "half of the updates are of partition {partitions:?}"
    );
    // None of a follower's own updates is in between: the reported value is a lag, and small.
    for result in farm.numbered("results", "late")? {
        ensure!(result["lag_tokens"] == result["tokens"], "{result}");
    }
    let results = farm.numbered("results", "lead")?;
    ensure!(
        results.iter().all(|result| result["lag_tokens"].is_null()),
        "the lead's tokens have a staleness"
    );
    Ok(())
}

/// Returns settings without their origins, which a joining role writes anew.
fn values(config: &str) -> Vec<&str> {
    let lines = config.lines();
    lines
        .filter_map(|line| line.split("  #").next())
        .map(str::trim)
        .collect()
}

/// Checks that each policy's last announcement is of its own learner's last version.
fn announced(farm: &Farm) -> Result<()> {
    let mut last = std::collections::BTreeMap::new();
    for payload in farm.kafka.read("vintage.run.policies.v1")? {
        let record: Value = serde_json::from_slice(&payload)?;
        last.insert(record["policy"].to_string(), number(&record, "version")?);
    }
    let steps = |name: &str| if name == "latest" { 3 } else { STEPS };
    for name in ["lead", "own", "latest", "same", "arm"] {
        ensure!(
            last.get(&format!("\"{name}\"")) == Some(&steps(name)),
            "{name}: {last:?}"
        );
    }
    Ok(())
}

/// Checks that a learner on the archive alone, as after every topic has expired, has the same
/// batches and the same weights.
fn offline(farm: &Farm, lead: &[String]) -> Result<()> {
    let archived = ["--follow-plans", "lead", "--set", "learner.source=archive"];
    let learned = run(farm.follower("later", STEPS + 5, &archived))?.json()?;
    ensure!(
        learned["version"] == STEPS && learned["ended"] == true && learned["finished"] == false,
        "it ends with the plans: {learned}"
    );
    ensure!(
        farm.hashes("later")? == lead,
        "from the archive, other weights"
    );

    // Settings of the run cannot be changed by a follower.
    let other = run(farm.follower("other", STEPS, &["--set", "rollout.max_tokens=3"]))?;
    ensure!(other.status.code() == Some(2), "{}", other.stderr);
    ensure!(
        other.stderr.contains("rollout.max_tokens"),
        "{}",
        other.stderr
    );
    let rival = ["--set", "learner.policy=lead"];
    let rival = run(farm.follower("rival", STEPS, &rival))?;
    ensure!(rival.status.code() == Some(2), "{}", rival.stderr);
    ensure!(
        rival.stderr.contains("publishes that lineage"),
        "{}",
        rival.stderr
    );
    ensure!(
        !farm.out.join("learners/rival").exists(),
        "it left a folder"
    );
    Ok(())
}

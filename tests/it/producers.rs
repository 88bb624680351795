//! Figures of producers in `vintage report`, against the account of `vintage audit` and the records
//! of the learner.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Kafka, audited, number, place, run, vintage};

use crate::{fleet::Fleet, roles::interrupt, small};

fn report(out: &Path) -> Result<(Value, String)> {
    let mut command = vintage(["report", "--output", "json"]);
    command.arg(out);
    let reported = run(command)?.json()?;
    let page = std::fs::read_to_string(out.join("report.html"))?;
    Ok((reported["producers"].clone(), page))
}

/// Compares the figures over all producers with the auditor's account of the lead.
fn agree(figures: &Value, out: &Path) -> Result<Value> {
    let audited = audited(out)?;
    ensure!(audited["holds"] == true, "{audited}");
    let account = &audited["learners"]["lead"];
    let total = &figures["total"];
    let groups = |of: &Value| number(of, "groups");
    for term in ["trained", "in_flight", "before_start"] {
        ensure!(
            groups(&total[term])? == number(account, term)?,
            "{term}: {figures} {account}"
        );
    }
    // What was lost is nowhere but in the journals, which are the auditor's.
    let there = number(account, "produced")? - number(account, "lost")?;
    ensure!(groups(&total["produced"])? == there, "{figures} {account}");
    let rejected = account["rejected"].as_object().context("reasons")?;
    let found = total["rejected"].as_object().context("reasons")?;
    ensure!(found.len() == rejected.len(), "{figures} {account}");
    for (reason, amount) in found {
        ensure!(
            amount["groups"] == rejected[reason],
            "{reason}: {figures} {account}"
        );
    }
    Ok(account.clone())
}

/// Compares what trained with the results of the updates.
fn agree_with_results(figures: &Value, results: &[Value]) -> Result<()> {
    let total = &figures["total"];
    let sum = |key: &str| {
        results
            .iter()
            .map(|result| number(result, key))
            .sum::<Result<u64>>()
    };
    ensure!(
        number(&total["trained"], "rollouts")? == sum("rows")?,
        "{figures}"
    );
    ensure!(
        number(&total["trained"], "tokens")? == sum("tokens")?,
        "{figures}"
    );
    let real = |of: &Value| of.as_f64().context("a number");
    let rewards = results
        .iter()
        .map(|result| Ok(real(&result["reward"])? * real(&result["rows"])?));
    let reward = rewards.sum::<Result<f64>>()? / sum("rows")? as f64;
    let found = real(&total["reward"]["trained"])?;
    ensure!((found - reward).abs() < 1e-6, "{found} {reward}");
    let stalest = results.iter().map(|result| number(result, "max_staleness"));
    let stalest = stalest.collect::<Result<Vec<_>>>()?;
    ensure!(
        Some(number(&total["staleness"], "max")?) == stalest.into_iter().max(),
        "{figures}"
    );
    Ok(())
}

#[test]
fn producers_are_compared_as_the_auditor_counts_them() -> Result<()> {
    const UPDATES: u64 = 30;
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    // Rollouts that are older than one update are refused.
    let settings = [
        &*format!("learner.steps={UPDATES}"),
        "gate.max_staleness=6",
        "learner.max_age=1",
        "rollout.concurrent_groups=2",
    ];
    let fleet = Fleet::new(folder.path(), "compared", &kafka, &settings)?;
    let learner = fleet.start("learn")?;
    let producers = [fleet.start("rollout")?, fleet.start("rollout")?];
    learner.wait()?.json()?;
    for producer in producers {
        producer.wait()?.json()?;
    }
    // Without an archive the report says so, and shows everything else.
    let (none, page) = report(&fleet.out)?;
    ensure!(none.is_null(), "{none}");
    ensure!(page.contains("there is no archive of this run") && page.contains("<svg"));

    let mut archive = fleet.start("archive")?;
    ensure!(archive.says("archiving")?, "the archive begins");
    interrupt(&archive)?;
    archive.wait()?.json()?;
    let (figures, page) = report(&fleet.out)?;
    let account = agree(&figures, &fleet.out)?;
    agree_with_results(&figures, &fleet.results(UPDATES)?)?;
    let each = figures["by_producer"].as_object().context("producers")?;
    ensure!(each.len() == 2, "{figures}");
    for (term, all) in [("produced", None), ("trained", Some("trained"))] {
        let groups = each.values().map(|of| number(&of[term], "groups"));
        let sum = groups.sum::<Result<u64>>()?;
        ensure!(
            sum == number(&figures["total"][term], "groups")?,
            "{figures}"
        );
        if let Some(all) = all {
            ensure!(sum == number(&account, all)?, "{account}");
        }
    }
    for name in each.keys() {
        ensure!(
            page.contains(name.as_str()),
            "the page does not name {name}"
        );
    }
    for text in [
        "Best of the first update",
        "Longest of the last update",
        "Completion lengths",
    ] {
        ensure!(page.contains(text), "no {text:?} in the page");
    }
    Ok(())
}

#[test]
fn a_run_with_an_embedded_broker_is_compared_too() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let (figures, _) = report(&out)?;
    agree(&figures, &out)?;
    let archive = out.join("archive/v1/topic=vintage.run.rollouts.v1/incarnation=0");
    let files = archive.read_dir()?.flatten();
    let files = files.flat_map(|partition| partition.path().read_dir().into_iter().flatten());
    let first = files.flatten().next().context("an archive file")?.path();
    // A damaged file costs its rollouts, and not the page.
    let mut bytes = std::fs::read(&first)?;
    bytes[10] ^= 0xff;
    std::fs::write(&first, bytes)?;
    let (damaged, page) = report(&out)?;
    ensure!(number(&damaged, "unreadable_files")? == 1, "{damaged}");
    ensure!(number(&damaged["total"], "unarchived")? > 0, "{damaged}");
    ensure!(
        damaged["total"]["trained"]["groups"] == figures["total"]["trained"]["groups"],
        "{damaged}"
    );
    ensure!(page.contains("could not be read"), "the page says so");
    Ok(())
}

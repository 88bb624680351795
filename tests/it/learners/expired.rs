//! Logs that no longer hold what a learner needs: the archive does, or an error says what is
//! missing.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_archive::{Filter, Reader};
use vintage_control::Incarnation;
use vintage_store::Store;
use vintage_tests::run;

use super::{Farm, PARTITIONS, ROLLOUTS, read};

/// Updates on records that are archived.
const ARCHIVED: u64 = 8;
/// Updates in all; those after [`ARCHIVED`] are on records that are in the log only.
const STEPS: u64 = 14;

/// Offset, timestamp and newest version of a record.
type Seen = (i64, i64, u64);

/// Returns the contents of the archive, by partition.
fn archived(farm: &Farm) -> Result<Vec<Vec<Seen>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let store = Store::open(&farm.out.join("archive").to_string_lossy())?;
    runtime.block_on(async {
        let reader = Reader::new(store, ROLLOUTS);
        let mut found = vec![Vec::new(); PARTITIONS];
        for partition in reader.partitions(Incarnation(0)).await? {
            let filter = Filter::default();
            let mut messages = reader.messages(Incarnation(0), partition, &filter).await?;
            while let Some(message) = messages.next().await? {
                let newest = message.headers?.max_policy_version.0;
                let at = message.timestamp_ms.context("a time")?;
                found[partition.0 as usize].push((message.record.offset.0, at, newest));
            }
        }
        Ok(found)
    })
}

/// Returns the offsets at which a learner began, by partition.
fn began(farm: &Farm, name: &str) -> Result<BTreeMap<u64, i64>> {
    let start: Value = serde_json::from_str(&read(&farm.out.join(format!("starts/{name}.json")))?)?;
    let partitions = start["partitions"].as_array().context("partitions")?;
    let place = |at: &Value| Some((at["partition"].as_u64()?, at["offset"].as_i64()?));
    let places: Option<_> = partitions.iter().map(place).collect();
    places.context("partition and offset")
}

/// Runs a learner for one update from `start`, and returns the offsets at which it began.
fn starts(farm: &Farm, name: &str, start: &str) -> Result<BTreeMap<u64, i64>> {
    let learned = run(farm.follower(name, 1, &["--start", start]))?.json()?;
    ensure!(learned["finished"] == true, "{start}: {learned}");
    began(farm, name)
}

#[test]
fn what_the_log_no_longer_holds_comes_from_the_archive_up_to_its_end() -> Result<()> {
    let farm = Farm::new()?;
    farm.train(ARCHIVED, true)?;
    farm.train(STEPS, false)?;
    let hashes = farm.hashes("lead")?;
    ensure!(hashes.len() as u64 == STEPS, "{} updates", hashes.len());
    let held = archived(&farm)?;
    let ends: Vec<_> = held
        .iter()
        .map(|records| records.last().map_or(0, |(offset, ..)| offset + 1))
        .collect();
    let marks = farm.kafka.marks(ROLLOUTS)?;
    ensure!(
        marks
            .iter()
            .zip(&ends)
            .any(|((_, _, high), end)| *end < high.0),
        "the archive holds the whole log: {marks:?} {ends:?}"
    );
    let version = ARCHIVED / 2;
    let (_, time, _) = held[0][held[0].len() / 2];
    let time_start = format!("time={}", jiff::Timestamp::from_millisecond(time)?);
    let by_time = starts(&farm, "t1", &time_start)?;
    let by_version = starts(&farm, "v1", &format!("version={version}"))?;
    for (partition, records) in held.iter().enumerate() {
        let first = |wanted: &dyn Fn(&Seen) -> bool| {
            let found = records.iter().find(|seen| wanted(seen));
            found.map_or(ends[partition], |(offset, ..)| *offset)
        };
        let partition = partition as u64;
        ensure!(
            by_time[&partition] == first(&|(_, at, _)| *at >= time),
            "{by_time:?}"
        );
        let sampled = first(&|(_, _, newest)| *newest >= version);
        ensure!(by_version[&partition] == sampled, "{by_version:?}");
    }

    // One partition expires up to the archive's end, the other in the middle of it.
    let low = [ends[0], ends[1] / 2];
    farm.kafka.delete_before(ROLLOUTS, &low)?;
    let marks = farm.kafka.marks(ROLLOUTS)?;
    ensure!(
        marks[0].1.0 == low[0] && marks[1].1.0 == low[1],
        "{marks:?}"
    );
    ensure!(
        starts(&farm, "t2", &time_start)? == by_time
            && starts(&farm, "v2", &format!("version={version}"))? == by_version,
        "a start is the same place whether log or archive holds it"
    );

    // Another learner on the lead's batches reads all of it; so does the lead without its
    // checkpoints, and then it continues.
    let follower = farm.follower("copy", STEPS, &["--follow-plans", "lead"]);
    let learned = run(follower)?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    ensure!(
        farm.hashes("copy")? == hashes,
        "out of the archive, other weights"
    );
    std::fs::remove_dir_all(farm.out.join("checkpoints/lead"))?;
    farm.train(STEPS + 2, false)?;
    ensure!(
        farm.hashes("lead")?[..STEPS as usize] == hashes,
        "recovered to other weights"
    );

    // Now there is a gap between archive and log.
    let low = [ends[0] + 1, ends[1]];
    farm.kafka.delete_before(ROLLOUTS, &low)?;
    std::fs::remove_dir_all(farm.out.join("checkpoints/lead"))?;
    let before = farm.hashes("lead")?;
    let refused = run(farm.role("learn", STEPS + 3))?;
    ensure!(
        refused.status.code() == Some(1),
        "{}\n{}",
        refused.status,
        refused.stderr
    );
    let reasons = [
        format!("partition 0 of {ROLLOUTS} is to be read from offset 0 on"),
        format!("the log now starts at {}", low[0]),
        format!("the archive holds offsets 0 to before {}", ends[0]),
        "retention passed this learner".to_owned(),
    ];
    for words in reasons {
        ensure!(
            refused.stderr.contains(&words),
            "{words:?} is not in {}",
            refused.stderr
        );
    }
    ensure!(
        farm.hashes("lead")? == before,
        "it trained on what was left"
    );

    // A new learner begins with the records that exist, and that is recorded.
    let learned = run(farm.follower("newcomer", 1, &[]))?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    let expected = BTreeMap::from([(0, low[0]), (1, 0)]);
    ensure!(
        began(&farm, "newcomer")? == expected,
        "{:?}",
        began(&farm, "newcomer")?
    );
    let elsewhere = run(farm.follower("misled", 1, &["--start", "offset=0:0"]))?;
    ensure!(elsewhere.status.code() == Some(2), "{}", elsewhere.stderr);
    ensure!(
        elsewhere.stderr.contains("has offsets"),
        "{}",
        elsewhere.stderr
    );
    Ok(())
}

//! The store in a bucket, on a real S3 server, and runs that have their root there.

mod proxy;
mod suite;

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;
use vintage_control::Fault;
use vintage_store::{Created, Error, Store, Trouble};
use vintage_tests::{Running, S3, number, run, s3_options, vintage};

use self::proxy::{Fate, Judge, Proxy};
use crate::{sites::gate::Gate, small};

const BUCKET: &str = "rollouts";

fn bucket(port: u16, prefix: &str) -> Result<Store> {
    let location = format!("s3://{BUCKET}/{prefix}");
    Ok(Store::open_with(&location, &s3_options(port))?)
}

#[test]
fn a_store_conforms_in_a_folder_and_in_a_bucket() -> Result<()> {
    let runtime = Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().context("a path in Unicode")?;
    runtime.block_on(suite::conforms(&Store::open(location)?));
    let server = S3::up(BUCKET)?;
    runtime.block_on(suite::conforms(&bucket(server.port(), "some/where")?));
    Ok(())
}

#[test]
fn what_a_bucket_may_answer_is_taken_for_what_it_means() -> Result<()> {
    let server = S3::up(BUCKET)?;
    let behind_proxy = |judge| -> Result<_> {
        let proxy = Proxy::before(server.port(), judge)?;
        let store = bucket(proxy.port, "answers")?;
        Ok((proxy, store))
    };
    let create = async |store: &Store, path: &str| {
        let created = store.create(path, Bytes::from_static(b"ours")).await;
        created.map_err(anyhow::Error::from)
    };
    Runtime::new()?.block_on(async {
        // A server, or a proxy before it, that ignores the condition.
        let (_proxy, store) = behind_proxy(|_, _| Fate::Unconditional)?;
        let refused = store.probe_conditional_put().await;
        let refused = refused.err().context("the probe must fail")?;
        let meant = matches!(refused, Error::NoConditionalPut { .. });
        ensure!(meant && !refused.is_retryable(), "{refused}");

        // The write is done and its answer lost: the writer meets its own object and knows it.
        let (proxy, store) = behind_proxy(|method, before| match (method, before) {
            ("PUT", 0..2) => Fate::Unanswered,
            _ => Fate::Passed,
        })?;
        ensure!(create(&store, "lost-answer").await? == Created::New);
        ensure!(proxy.puts() > 0, "the write took another way");
        let found = store.get("lost-answer").await?;
        ensure!(found.as_deref() == Some(b"ours"), "{found:?}");

        // The same where a rival was first: its object is not mistaken for ours.
        ensure!(create(&bucket(server.port(), "answers")?, "rival").await? == Created::New);
        let (_proxy, store) = behind_proxy(|method, before| match (method, before) {
            ("PUT", 0) => Fate::Unanswered,
            _ => Fate::Passed,
        })?;
        ensure!(create(&store, "rival").await? == Created::Exists);

        // A rival's write is in progress, and fails: nobody has written the object yet.
        let (proxy, store) = behind_proxy(|method, before| match (method, before) {
            ("PUT", 0) => Fate::Refused("409 Conflict"),
            _ => Fate::Passed,
        })?;
        ensure!(create(&store, "conflict").await? == Created::New);
        ensure!(proxy.puts() == 2, "{} writes", proxy.puts());

        // No right to write: distinguished from a server that is away, and not tried again.
        let (proxy, store) = behind_proxy(|_, _| Fate::Refused("403 Forbidden"))?;
        let refused = store.create("forbidden", Bytes::new()).await;
        let refused = refused.err().context("it must fail")?;
        ensure!(
            refused.trouble() == Some(Trouble::NoPermission),
            "{refused}"
        );
        ensure!(
            refused.to_string().contains("AWS_ACCESS_KEY_ID"),
            "{refused}"
        );
        ensure!(proxy.puts() == 1, "{} writes", proxy.puts());
        Ok(())
    })
}

#[test]
fn a_store_that_refuses_a_condition_is_told_from_one_that_is_away() -> Result<()> {
    let server = S3::up(BUCKET)?;
    let judges: [(&str, Judge); 4] = [
        ("501", |_, _| Fate::ConditionRefused("501 Not Implemented")),
        ("405", |_, _| {
            Fate::ConditionRefused("405 Method Not Allowed")
        }),
        ("403", |_, _| Fate::ConditionRefused("403 Forbidden")),
        ("400", |_, _| Fate::ConditionRefused("400 Bad Request")),
    ];
    let runtime = Runtime::new()?;
    for (status, judge) in judges {
        let proxy = Proxy::before(server.port(), judge)?;
        let store = bucket(proxy.port, &format!("refusing-{status}"))?;
        let refused = runtime.block_on(store.probe_conditional_put());
        let refused = refused.err().context("the probe must fail")?;
        let meant = matches!(refused, Error::NoConditionalPut { .. });
        ensure!(meant && !refused.is_retryable(), "{status}: {refused}");
        ensure!(refused.fault() == Fault::User, "{status}: {refused}");
        // The refused create, and the plain one that shows what is refused: no more writes.
        ensure!(proxy.puts() <= 2, "{status}: {} writes", proxy.puts());
        let left = runtime.block_on(bucket(server.port(), "")?.list(""))?;
        ensure!(left.is_empty(), "{status}: the probe left {left:?}");
    }
    // Without an earlier probe, a create reports it too.
    let proxy = Proxy::before(server.port(), judges[0].1)?;
    let created = bucket(proxy.port, "later")?;
    let created = runtime.block_on(created.create("x", Bytes::new()));
    let refused = created.err().context("it must fail")?;
    ensure!(
        matches!(refused, Error::NoConditionalPut { .. }),
        "{refused}"
    );
    Ok(())
}

#[test]
fn a_bucket_that_is_full_or_not_there_is_told_at_once() -> Result<()> {
    let server = S3::up(BUCKET)?;
    let runtime = Runtime::new()?;
    let create = |judge: Judge| -> Result<(Error, u64)> {
        let proxy = Proxy::before(server.port(), judge)?;
        let store = bucket(proxy.port, "full")?;
        let created = runtime.block_on(store.create("x", Bytes::new()));
        Ok((created.err().context("it must fail")?, proxy.puts()))
    };
    let (full, puts) =
        create(|_, _| Fate::Erroneous("507 Insufficient Storage", "XMinioStorageFull"))?;
    ensure!(full.trouble() == Some(Trouble::NoRoom), "{full}");
    ensure!(puts == 1, "{puts} writes");
    let (absent, puts) = create(|_, _| Fate::Erroneous("404 Not Found", "NoSuchBucket"))?;
    ensure!(
        absent.fault() == Fault::User && absent.trouble().is_none(),
        "{absent}"
    );
    ensure!(
        absent.to_string().contains("NoSuchBucket") && puts == 1,
        "{absent}"
    );
    // A server that is away is asked again, and is not blamed on the settings.
    let (away, puts) = create(|_, before| match before {
        0..=1 => Fate::Refused("503 Service Unavailable"),
        _ => Fate::Refused("403 Forbidden"),
    })?;
    ensure!(puts > 2, "{puts} writes: {away}");
    Ok(())
}

#[test]
fn a_run_on_a_store_without_conditional_put_ends_with_usage() -> Result<()> {
    let server = S3::up(BUCKET)?;
    let proxy = Proxy::before(server.port(), |_, _| {
        Fate::ConditionRefused("501 Not Implemented")
    })?;
    let folder = tempfile::tempdir()?;
    let mut training = in_bucket(
        &server,
        small::digits(folder.path(), &folder.path().join("a"))?,
    );
    let endpoint = format!("store_options.endpoint=http://127.0.0.1:{}", proxy.port);
    training.args(["--set", &endpoint]);
    let ended = run(training)?;
    ensure!(
        ended.status.code() == Some(2),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    let said = "use a store with conditional put";
    ensure!(ended.stderr.contains(said), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_run_waits_for_its_bucket_and_goes_on() -> Result<()> {
    let server = S3::up(BUCKET)?;
    let gate = Gate::before(server.port())?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let mut training = in_bucket(&server, small::digits(folder.path(), &out)?);
    let endpoint = format!("store_options.endpoint=http://127.0.0.1:{}", gate.port);
    training.args(["--steps", "30", "--set", &endpoint]);
    let mut training = Running::start(training)?;
    ensure!(training.says("training")?, "it ended by itself");
    let runtime = Runtime::new()?;
    let store = bucket(server.port(), "runs/a")?;
    while runtime.block_on(store.list("results/lead"))?.len() < 3 {
        ensure!(
            training.runs_for(Duration::from_millis(20)),
            "it ended by itself"
        );
    }
    gate.shut();
    // The tries of one request are over by then.
    let waits = "the store is away and tried again";
    ensure!(training.says(waits)?, "it ended while its store was away");
    gate.open();
    let ended = training.wait()?;
    ensure!(ended.status.success(), "{}\n{}", ended.status, ended.stderr);
    let summary: serde_json::Value = serde_json::from_str(&ended.stdout)?;
    ensure!(summary["finished"] == true, "{summary}");
    ensure!(summary["balanced"] == true, "{summary}");
    ensure!(number(&summary, "updates")? == 30, "{summary}");
    Ok(())
}

/// Returns a command whose store is the bucket.
fn in_bucket(server: &S3, mut command: Command) -> Command {
    command.args(["--set", &format!("store=s3://{BUCKET}/runs/a")]);
    for (name, value) in server.options() {
        if name.contains("secret") {
            // A secret comes from the environment, never from the settings.
            command.env("AWS_SECRET_ACCESS_KEY", value);
        } else {
            command.args(["--set", &format!("store_options.{name}={value}")]);
        }
    }
    command
}

#[test]
fn a_run_in_a_bucket_is_killed_goes_on_and_replays() -> Result<()> {
    let server = S3::up(BUCKET)?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let training = || -> Result<Command> {
        let mut command = in_bucket(&server, small::digits(folder.path(), &out)?);
        command.args(["--steps", "30", "--set", "learner.checkpoint_every=5"]);
        // Several files in every partition, however early the kill comes: a file goes whole or not.
        command.args(["--set", "archive.roll_bytes=16000"]);
        Ok(command)
    };
    let runtime = Runtime::new()?;
    let store = bucket(server.port(), "runs/a")?;
    let mut killed = Running::start(training()?)?;
    ensure!(killed.says("training")?, "it ended by itself");
    // Past its first checkpoint, so that the second process has something to resume from.
    while runtime.block_on(store.list("results/lead"))?.len() < 7 {
        ensure!(
            killed.runs_for(Duration::from_millis(20)),
            "it ended by itself"
        );
    }
    killed.kill()?;

    let summary = small::finished(training()?)?;
    ensure!(number(&summary, "updates")? == 30, "{summary}");
    for held in ["plans/lead/29.json", "weights/lead/30/manifest.json"] {
        ensure!(runtime.block_on(store.head(held))?.is_some(), "no {held}");
        ensure!(!out.join(held).exists(), "{held} is in the folder too");
    }
    let archived = runtime.block_on(store.list("archive"))?;
    ensure!(
        archived.iter().any(|file| file.ends_with(".parquet")),
        "{archived:?}"
    );

    let mut replay = vintage(["replay", "--output", "json", "--exact"]);
    replay.arg(&out).env("AWS_SECRET_ACCESS_KEY", "tests");
    let replayed = run(replay)?.json()?;
    ensure!(replayed["identical"] == true, "{replayed}");
    ensure!(number(&replayed, "updates")? == 30, "{replayed}");
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed}"
    );

    // Pruned by its store alone; the folder's auditor sees it.
    let mut prune = in_bucket(&server, vintage(["prune", "--output", "json", "--apply"]));
    prune.args(["--keep-checkpoints", "1", "--archive-before", "30"]);
    let pruned = run(prune)?.json()?;
    ensure!(pruned["record"] == "prunes/0.json", "{pruned}");
    ensure!(number(&pruned, "objects")? > 0, "{pruned}");
    let kept = runtime.block_on(store.list("checkpoints/lead"))?;
    ensure!(kept.iter().all(|path| path.contains("/30/")), "{kept:?}");
    let left = runtime.block_on(store.list("archive"))?;
    ensure!(
        left.iter().any(|file| file.ends_with(".pruned")),
        "{left:?}"
    );
    let mut audit = vintage(["audit", "--output", "json"]);
    audit.arg(&out).env("AWS_SECRET_ACCESS_KEY", "tests");
    let audited = run(audit)?.json()?;
    ensure!(audited["holds"] == true, "{audited}");
    ensure!(
        audited["notes"].to_string().contains("prunes/0.json"),
        "{audited}"
    );
    Ok(())
}

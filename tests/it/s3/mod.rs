//! The store in a bucket, on a real S3 server, and runs that have their root there.

mod proxy;
mod suite;

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;
use vintage_store::{Created, Error, Store, Trouble};
use vintage_tests::{Running, S3, number, run, s3_options, vintage};

use self::proxy::{Fate, Proxy};
use crate::small;

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
    let through = |judge| -> Result<_> {
        let proxy = Proxy::before(server.port(), judge)?;
        let store = bucket(proxy.port, "answers")?;
        Ok((proxy, store))
    };
    let create = async |store: &Store, path: &str| {
        let created = store.create(path, Bytes::from_static(b"ours")).await;
        created.map_err(anyhow::Error::from)
    };
    Runtime::new()?.block_on(async {
        // A server, or something before it, that does not know the condition.
        let (_proxy, store) = through(|_, _| Fate::Unconditional)?;
        let refused = store.probe_conditional_put().await;
        let refused = refused.err().context("the probe must fail")?;
        let meant = matches!(refused, Error::NoConditionalPut { .. });
        ensure!(meant && !refused.is_retryable(), "{refused}");

        // Done, and the answer lost: the writer meets its own object and knows it.
        let (proxy, store) = through(|method, before| match (method, before) {
            ("PUT", 0..2) => Fate::Unanswered,
            _ => Fate::Passed,
        })?;
        ensure!(create(&store, "lost-answer").await? == Created::New);
        ensure!(proxy.puts() > 0, "the write took another way");
        let found = store.get("lost-answer").await?;
        ensure!(found.as_deref() == Some(b"ours"), "{found:?}");

        // The same where a rival was first: its object is not mistaken for ours.
        ensure!(create(&bucket(server.port(), "answers")?, "rival").await? == Created::New);
        let (_proxy, store) = through(|method, before| match (method, before) {
            ("PUT", 0) => Fate::Unanswered,
            _ => Fate::Passed,
        })?;
        ensure!(create(&store, "rival").await? == Created::Exists);

        // A rival's write is under way, and fails: nobody has written the object yet.
        let (proxy, store) = through(|method, before| match (method, before) {
            ("PUT", 0) => Fate::Refused("409 Conflict"),
            _ => Fate::Passed,
        })?;
        ensure!(create(&store, "conflict").await? == Created::New);
        ensure!(proxy.puts() == 2, "{} writes", proxy.puts());

        // No right to write: told apart from a server that is away, and not tried again.
        let (proxy, store) = through(|_, _| Fate::Refused("403 Forbidden"))?;
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

/// `vintage …` whose store is the bucket.
fn in_bucket(server: &S3, mut command: Command) -> Command {
    command.args(["--set", &format!("store=s3://{BUCKET}/runs/a")]);
    for (name, value) in server.options() {
        if name.contains("secret") {
            // A secret comes from the environment, never out of the settings.
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
        Ok(command)
    };
    let runtime = Runtime::new()?;
    let store = bucket(server.port(), "runs/a")?;
    let mut killed = Running::start(training()?)?;
    ensure!(killed.says("training")?, "it ended by itself");
    // Past its first checkpoint, so that the second life has something to go on from.
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
    Ok(())
}

//! Progress as JSON lines, as programs read it; and the end of a verb that has none.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use vintage_tests::{Running, place, run, s3_options, vintage};

use crate::small;

#[test]
fn every_line_of_a_run_is_json_and_has_the_result_of_every_update() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    command.args(["--log-format", "json", "-v"]);
    let ended = run(command)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let mut updates = Vec::new();
    for line in ended.stderr.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(line["timestamp"].is_string(), "{line}");
        if line["event"] == "update" {
            let recorded = out.join(format!("results/lead/{}.json", line["update"]));
            let recorded: Value = serde_json::from_slice(&std::fs::read(recorded)?)?;
            ensure!(line["result"] == recorded, "{line} is not {recorded}");
            updates.push(line["update"].as_u64());
        }
    }
    assert_eq!(updates, [Some(0), Some(1), Some(2)]);
    let summary: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(summary["finished"] == true, "{summary}");
    Ok(())
}

#[test]
fn a_signal_ends_a_verb_that_only_reads() -> Result<()> {
    // A store that takes connections and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut audit = vintage(["audit", "--offline", "--set", "store=s3://runs/a"]);
        for (name, value) in s3_options(silent.local_addr()?.port()) {
            if !name.starts_with("aws_") {
                audit.args(["--set", &format!("store_options.{name}={value:?}")]);
            }
        }
        audit.env("AWS_ACCESS_KEY_ID", "tests");
        audit.env("AWS_SECRET_ACCESS_KEY", "tests");
        let audit = Running::start(audit)?;
        let _asked = silent.accept()?;
        audit.signal(signal)?;
        let ended = audit.wait()?;
        ensure!(ended.status.code() == Some(code), "{}", ended.status);
        ensure!(ended.stdout.is_empty(), "{}", ended.stdout);
    }
    Ok(())
}

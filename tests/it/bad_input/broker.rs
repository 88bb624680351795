//! Brokers that do not exist or do not answer, and addresses that are invalid.

use std::{net::TcpListener, process::Command};

use anyhow::{Result, ensure};
use vintage_tests::{place, vintage};

use super::{FAILED, USAGE, refused, start};
use crate::small;

#[test]
fn a_broker_that_cannot_be_reached_is_named_in_bounded_time() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A port on which nothing listens: it was ours a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    // A server that accepts connections and sends nothing.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let silent = listener.local_addr()?.to_string();
    let on = |command: &mut Command, address: &str| {
        command.args(["--broker", address]);
    };
    // All at the same time: each waits ten seconds for an answer.
    let mut refusals = Vec::new();
    for (name, address) in [("closed", &closed), ("silent", &silent)] {
        let out = folder.path().join(name);
        let mut command = small::digits(folder.path(), &out)?;
        on(&mut command, address);
        refusals.push((start(&command)?, address));
    }
    for role in ["learn", "rollout", "archive"] {
        let mut command = vintage([role, "--out"]);
        command.arg(folder.path().join(role));
        on(&mut command, &closed);
        refusals.push((start(&command)?, &closed));
    }
    let mut topics = vintage(["topics", "list"]);
    on(&mut topics, &closed);
    refusals.push((start(&topics)?, &closed));
    for (refusal, address) in refusals {
        refusal.because(
            FAILED,
            &["no broker answered", address, "check the address"],
        )?;
    }

    // Nothing is left that would be in the way of the right address.
    for name in ["closed", "silent", "learn", "rollout", "archive"] {
        ensure!(!folder.path().join(name).exists(), "{name} left a folder");
    }
    Ok(())
}

#[test]
fn what_is_no_address_is_refused_at_once() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    command.args(["--broker", "kafka"]);
    refused(&command, USAGE, &["\"kafka\"", "host:port"])?;
    ensure!(!out.exists());
    // A single role cannot bring up a broker that other roles reach.
    let mut role = vintage(["learn", "--out"]);
    role.arg(&out);
    refused(&role, USAGE, &["embedded", "vintage broker up"])?;
    ensure!(!out.exists());
    // A role's other inputs are checked as a run's are.
    let mut role = vintage(["learn", "--broker", "127.0.0.1:1", "--out"]);
    role.arg(&out)
        .args(["--set", "prompts.train=/nowhere.jsonl"]);
    refused(&role, USAGE, &["/nowhere.jsonl", "No such file"])?;
    ensure!(!out.exists());
    Ok(())
}

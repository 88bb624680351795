//! `vintage serve`: a run that samples from it, and a policy that people try.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use vintage_tests::{Running, free_port, get, number, place, run, vintage};

use crate::small;

/// Server in a process of its own; killed when dropped.
struct Serving {
    process: Running,
    port: u16,
}

impl Serving {
    /// Serves a folder, and waits until it answers.
    fn start(folder: &Path, port: u16) -> Result<Self> {
        let listen = format!("127.0.0.1:{port}");
        let mut command = vintage(["serve", "-v", "--output", "json", "--listen", &listen]);
        command.arg(folder);
        let (line, said) = std::sync::mpsc::channel();
        let process = Running::with_stdout(command, move |text| {
            let _nobody_waits = line.send(text);
        })?;
        let said: Value = serde_json::from_str(&said.recv().context("it ended")?)?;
        let url = said["url"].as_str().context("no url")?;
        ensure!(url == format!("http://{listen}"), "{said}");
        ensure!(get(port, "/health")?.status == 200, "{said}");
        Ok(Self { process, port })
    }

    fn label(&self) -> Result<String> {
        let info: Value = serde_json::from_str(&get(self.port, "/weight_info")?.body)?;
        Ok(info["weight_version"]
            .as_str()
            .context("no label")?
            .to_owned())
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        write!(
            connection,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(serde_json::from_str(body)?)
    }
}

/// Returns a run of `steps` updates of the model in `folder` that samples from a server.
fn training(folder: &Path, out: &Path, port: u16, steps: u64) -> Result<Command> {
    let mut command = small::digits(folder, out)?;
    let model = folder.join("model");
    command
        .arg("-v")
        .args(["--set", &format!("model.path={}", model.display())]);
    command.args(["--set", "rollout.engine=vllm"]);
    let endpoints = format!("rollout.endpoints=[\"http://127.0.0.1:{port}\"]");
    command.args(["--set", &endpoints, "--set", "learner.optimizer.lr=1e-3"]);
    // Old rollouts are not taken, so every version is loaded into the server.
    command.args(["--set", "gate.max_staleness=1"]);
    command.args(["--set", &format!("learner.steps={steps}")]);
    Ok(command)
}

#[test]
fn a_run_trains_against_a_server_that_is_killed_and_comes_back() -> Result<()> {
    const STEPS: u64 = 40;
    let (folder, out) = place()?;
    let model = folder.path().join("model");
    small::save(&model, &small::model()?)?;
    let port = free_port()?;
    let server = Serving::start(&model, port)?;
    ensure!(server.label()? == "default", "a model has no version");
    let mut training = Running::start(training(folder.path(), &out, port, STEPS)?)?;
    ensure!(
        training.says("is in service with version 3")?,
        "no version 3"
    );
    server.process.kill()?;
    let server = Serving::start(&model, port)?;
    let ended = training.wait()?;
    let summary: Value = ended.json()?;
    ensure!(
        summary["finished"] == true && summary["balanced"] == true,
        "{summary}"
    );
    let label = server.label()?;
    ensure!(label.starts_with("lead-"), "{label}");

    let mut audit = vintage(["audit", "--output", "json", "--deep"]);
    audit.arg(&out);
    let audit = run(audit)?.json()?;
    ensure!(audit["holds"] == true, "{audit}");
    ensure!(number(&audit["learners"]["lead"], "lost")? == 0, "{audit}");
    vintage_tests::replayed(&out, STEPS)?;

    // The run's newest version, out of its folder: what the server was given last, or newer.
    server.process.signal(Signal::INT)?;
    let ended = server.process.wait()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let server = Serving::start(&out, free_port()?)?;
    ensure!(
        server.label()?.starts_with(&format!("lead-{STEPS}-")),
        "{}",
        server.label()?
    );
    let body = json!({"prompt": "7=", "max_tokens": 2, "temperature": 0, "return_token_ids": true});
    let reply = server.ask("/v1/completions", &body)?;
    ensure!(reply["choices"][0]["token_ids"].is_array(), "{reply}");

    // An older version, and a second server for an address that is taken.
    let old = format!("127.0.0.1:{}", server.port);
    let mut second = vintage(["serve", "--policy-version", "0", "--listen", &old]);
    second.arg(&out);
    let refused = run(second)?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    ensure!(refused.stderr.contains("--listen"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn what_cannot_be_served_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("nothing");
    for (what, said) in [
        (missing.as_path(), "neither a run's folder"),
        (folder.path(), "neither a run's folder"),
    ] {
        let mut command = vintage(["serve", "--listen", "127.0.0.1:0"]);
        command.arg(what);
        let ended = run(command)?;
        ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
        ensure!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let model = folder.path().join("model");
    small::save(&model, &small::model()?)?;
    let mut command = vintage(["serve", "--policy-version", "1"]);
    command.arg(&model);
    let ended = run(command)?;
    ensure!(
        ended.stderr.contains("is a model and no run"),
        "{}",
        ended.stderr
    );
    Ok(())
}

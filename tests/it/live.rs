//! Endpoints of every role while it runs: metrics, health, readiness and the live page.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use vintage_tests::{Answer, Kafka, Running, free_port, get, number, place, run};

use crate::small;

/// Asks until `found` says yes, and returns what it then found; the process must be running.
fn until<T>(
    running: &mut Running,
    port: u16,
    path: &str,
    found: impl Fn(&Answer) -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut last = String::new();
    while Instant::now() < deadline {
        // Before the process listens, nobody answers.
        if let Ok(answer) = get(port, path) {
            if let Some(found) = found(&answer) {
                return Ok(found);
            }
            last = format!("{} {}", answer.status, answer.body);
        }
        ensure!(
            running.runs_for(Duration::from_millis(100)),
            "it ended; {path} was {last}"
        );
    }
    anyhow::bail!("{path} is still {last}")
}

fn is(status: u16) -> impl Fn(&Answer) -> Option<String> {
    move |answer| (answer.status == status).then(|| answer.body.clone())
}

/// Answers with `/live.json` once it satisfies `holds`.
fn live(holds: impl Fn(&Value) -> bool) -> impl Fn(&Answer) -> Option<Value> {
    move |answer| {
        let view: Value = serde_json::from_str(&answer.body).ok()?;
        holds(&view).then_some(view)
    }
}

fn interrupted(running: Running) -> Result<()> {
    running.signal(Signal::INT)?;
    let ended = running.wait()?;
    ensure!(ended.status.code() == Some(130), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_run_answers_for_itself_while_it_trains() -> Result<()> {
    let (folder, out) = place()?;
    let port = free_port()?;
    let mut command = small::digits(folder.path(), &out)?;
    command.args(["--steps", "100000", "--metrics", &port.to_string()]);
    let mut running = Running::start(command)?;
    let said = until(&mut running, port, "/readyz", is(200))?;
    ensure!(said.contains("the learner is"), "{said}");
    let said = until(&mut running, port, "/healthz", is(200))?;
    ensure!(said.contains("the producer is"), "{said}");
    // Rates, lags and points come with later samples than the first updates: each is awaited.
    let lags_of = |view: &Value, reader: &str| {
        let lags = view["lag"].as_array().into_iter().flatten();
        let of_reader = |lag: &Value| lag["reader"].as_str().is_some_and(|of| of.contains(reader));
        lags.filter(|lag| of_reader(lag)).count()
    };
    let view = until(&mut running, port, "/live.json", |answer| {
        live(|view| {
            let points = view["points"].as_array().map_or(0, Vec::len);
            let readers = ["learner", "vintage-archive"];
            view["updates"]["done"].as_u64() > Some(5)
                && view["updates"]["per_second"].as_f64() > Some(0.0)
                && view["producers"][0]["groups"].as_u64() > Some(5)
                && points > 1
                && view["rollouts"][0].is_object()
                && readers.iter().all(|reader| lags_of(view, reader) > 0)
        })(answer)
    })?;
    ensure!(
        view["role"] == "learner" && view["health"]["ok"] == true,
        "{} {}",
        view["role"],
        view["health"]
    );
    ensure!(
        view["points"][0]["staleness"].is_number(),
        "{}",
        view["points"]
    );
    let rollout = &view["rollouts"][0];
    ensure!(
        rollout["prompt"]
            .as_str()
            .is_some_and(|text| text.ends_with('=')),
        "{rollout}"
    );
    let tokens = number(rollout, "tokens")?;
    ensure!(
        rollout["versions"][0]["from"] == 0 && rollout["versions"][0]["to"] == tokens,
        "{rollout}"
    );
    let page = get(port, "/")?;
    ensure!(page.status == 200, "{}", page.head);
    ensure!(page.head.contains("default-src 'none'"), "{}", page.head);
    ensure!(
        page.body.contains("live.json"),
        "the page asks for the state"
    );
    let metrics = get(port, "/metrics")?;
    ensure!(
        metrics
            .body
            .contains("vintage_groups_trained_total{learner=\"lead\"}"),
        "{}",
        metrics.body
    );
    ensure!(get(port, "/nothing")?.status == 404, "there is nothing");
    if let Some(browser) = browser() {
        looks(&browser, port, folder.path())?;
    }
    interrupted(running)
}

/// Returns a Chromium of this machine, if it has one.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// Opens the page in a browser, and checks what its script drew.
fn looks(browser: &Path, port: u16, folder: &Path) -> Result<()> {
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=3000",
    ]);
    command.arg(format!(
        "--user-data-dir={}",
        folder.join("browser").display()
    ));
    command
        .arg("--dump-dom")
        .arg(format!("http://127.0.0.1:{port}/"));
    let shown = run(command)?.stdout;
    for drawn in [
        "updates per second",
        "<polyline",
        "healthy",
        "every token by version",
    ] {
        ensure!(shown.contains(drawn), "{drawn} is not on the page: {shown}");
    }
    // The page was drawn at a moment at which the producer may do either.
    let doing = ["sampling", "loading weights", "waiting for leases"];
    let says = doing.iter().any(|doing| shown.contains(doing));
    ensure!(says, "none of {doing:?} is on the page: {shown}");
    Ok(())
}

#[test]
fn roles_say_what_they_wait_for_and_the_lead_who_is_silent() -> Result<()> {
    let (folder, out) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let prompts = small::prompts(folder.path())?;
    let role = |verb: &str| -> Result<(Running, u16)> {
        let port = free_port()?;
        let mut command = small::verb(verb, &out);
        command.args(["--broker", kafka.address(), "--metrics", &port.to_string()]);
        command.args(["--set", "learner.steps=100000"]);
        command.args(["--set", &format!("prompts.train={}", prompts.display())]);
        Ok((Running::start(command)?, port))
    };
    // Without producers a learner is healthy, since a restart would not help, and not ready.
    let (mut learner, lead) = role("learn")?;
    let waits = |answer: &Answer| {
        answer
            .body
            .contains("no record came")
            .then_some(answer.status)
    };
    ensure!(
        until(&mut learner, lead, "/readyz", waits)? == 503,
        "not ready"
    );
    let said = until(&mut learner, lead, "/healthz", is(200))?;
    ensure!(said.contains("waiting for update 0"), "{said}");

    let (mut archive, port) = role("archive")?;
    until(&mut archive, port, "/readyz", is(200))?;
    let (mut first, port) = role("rollout")?;
    let said = until(&mut first, port, "/readyz", is(200))?;
    ensure!(said.contains("the producer is"), "{said}");
    let own = live(|view| view["rollouts"][0]["completion"].is_string());
    let own = until(&mut first, port, "/live.json", own)?;
    ensure!(
        own["role"] == "producer" && own["producers"][0]["name"] == "this process",
        "{own}"
    );
    let (mut second, port) = role("rollout")?;
    until(&mut second, port, "/readyz", is(200))?;
    let both = live(|view| {
        let producers = view["producers"].as_array();
        producers.is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["silent"] == false))
    });
    let view = until(&mut learner, lead, "/live.json", both)?;
    ensure!(view["ready"]["ok"] == true, "{view}");
    // The learner shows text that came through the log.
    ensure!(view["rollouts"][0]["trained_by"].is_number(), "{view}");

    second.signal(Signal::STOP)?;
    let silent = live(|view| {
        let producers = view["producers"].as_array().into_iter().flatten();
        let silent = producers.filter(|one| one["silent"] == true);
        silent
            .filter(|one| {
                one["doing"]
                    .as_str()
                    .is_some_and(|doing| doing.starts_with("silent for"))
            })
            .count()
            == 1
    });
    let view = until(&mut learner, lead, "/live.json", silent)?;
    ensure!(view["health"]["ok"] == true, "{view}");
    second.signal(Signal::CONT)?;
    for running in [second, first, learner, archive] {
        running.signal(Signal::INT)?;
        running.wait()?;
    }
    Ok(())
}

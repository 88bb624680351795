//! Foreign producers: the Python example publishes a group, and the learner trains on it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Running, python, run, vintage};

use crate::roles::Broker;

fn script(path: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path));
    command
}

fn json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Tests the Compose file of the cluster: it parses, its nodes know one another, and no port is
/// published beyond loopback.
#[test]
fn the_cluster_for_docker_is_whole() -> Result<()> {
    let check = r#"
import sys, yaml
services = yaml.safe_load(open(sys.argv[1]))["services"]
services = {name: node for name, node in services.items() if "profiles" not in node}
ids = sorted(node["environment"]["KAFKA_NODE_ID"] for node in services.values())
assert ids == ["1", "2", "3"], ids
for name, node in services.items():
    environment = node["environment"]
    voters = environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
    assert voters == [f"{i}@kafka-{i}:9093" for i in ids], voters
    assert name == "kafka-" + environment["KAFKA_NODE_ID"], name
    (port,) = node["ports"]
    host, published, _ = port.split(":")
    assert host == "127.0.0.1", port
    assert f"HOST://{host}:{published}" in environment["KAFKA_ADVERTISED_LISTENERS"], port
    assert all(isinstance(value, str) for value in environment.values()), environment
    assert node["volumes"] == [f"{name}:/var/lib/kafka/data"], node
"#;
    let mut command = Command::new(python());
    command.args(["-c", check]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/compose.yaml"));
    let checked = run(command)?;
    ensure!(checked.status.success(), "{}", checked.stderr);
    Ok(())
}

#[test]
fn the_python_example_publishes_a_group_and_the_learner_trains_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let out = folder.path().join("run");
    let mut apply = vintage(["topics", "apply", "--output", "json", "--broker"]);
    apply.arg(&broker.address);
    run(apply)?.json()?;

    let mut learn = vintage(["learn", "--output", "json", "--steps", "1", "--broker"]);
    learn.arg(&broker.address).arg("--out").arg(&out);
    learn.args([
        "--set",
        "learner.prompts_per_update=1",
        "--set",
        "warm_start.steps=5",
    ]);
    let learner = Running::start(learn)?;
    // As a producer would: once version 0 is announced, it can be sampled from.
    let mut announced = script("tests/python/announced.py");
    announced.args([&broker.address, "vintage.run.policies.v1"]);
    let announcement = run(announced)?.json()?;
    ensure!(
        announcement["policy"] == "lead" && announcement["version"] == 0,
        "{announcement}"
    );

    let tokenizer = out.join("weights/lead/0/tokenizer.json");
    let mut example = script("schemas/examples/python_client.py");
    example.arg(&broker.address).arg(&tokenizer);
    let example = run(example)?;
    ensure!(example.status.success(), "{}", example.stderr);
    // The example printed what it read back: the group, and a line for each of its rows.
    let mut printed = example.stdout.lines();
    let group = printed.next().and_then(|line| line.strip_prefix("group "));
    let group = group.context("no group")?.trim().to_owned();
    let rows: Vec<_> = printed.skip(1).collect();
    ensure!(rows.len() == 3, "{}", example.stdout);
    let vocabulary = &json(&tokenizer)?["model"]["vocab"];
    let tokens = |text: &str| -> Vec<&Value> {
        let digits = text.chars().map(|digit| &vocabulary[digit.to_string()]);
        digits.chain([&vocabulary["<eos>"]]).collect()
    };
    let listed = serde_json::to_string(&tokens("413236"))?.replace(',', ", ");
    ensure!(
        rows[0].contains("1.0") && rows[0].ends_with(&listed),
        "{}",
        example.stdout
    );

    let learned = learner.wait()?.json()?;
    ensure!(
        learned["groups_trained"] == 1 && learned["finished"] == true,
        "{learned}"
    );
    ensure!(learned["groups_rejected"] == 0, "{learned}");
    let plan = json(&out.join("plans/lead/0.json"))?;
    let planned = plan["groups"].as_array().context("no groups")?;
    ensure!(
        planned.len() == 1 && planned[0]["group"] == group.as_str(),
        "{plan}"
    );
    ensure!(
        planned[0]["rows"] == 3 && planned[0]["producer_seq"] == 0,
        "{plan}"
    );
    ensure!(plan["rejections"] == serde_json::json!([]), "{plan}");
    // Three guesses of six digits and the end of text, of which one of three was right.
    let result = json(&out.join("results/lead/0.json"))?;
    ensure!(result["rows"] == 3 && result["tokens"] == 21, "{result}");
    let reward = result["reward"].as_f64().context("no reward")?;
    ensure!((reward - 1.0 / 3.0).abs() < 1e-6, "{result}");
    ensure!(result["max_staleness"] == 0, "{result}");
    ensure!(
        result["weights_sha256"] != plan["weights_sha256"],
        "it changed nothing: {result}"
    );
    Ok(())
}

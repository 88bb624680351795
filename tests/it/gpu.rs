//! GPUs, on a machine that has none: a request for one is refused with what is missing. What has
//! `--device` works on the CPU. GPU code is compiled only where it was asked for.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use cargo_metadata::DependencyKind;
use serde_json::Value;
use vintage_tests::{models, place, run, vintage};

use crate::{
    architecture::{metadata, short},
    small,
};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Tests that a request for a GPU that does not exist gets one line with the way out, before
/// anything is written. No machine has a GPU of number 4096.
#[test]
fn a_gpu_that_cannot_be_had_is_named_with_what_is_missing() -> Result<()> {
    let (folder, out) = place()?;
    let mut training = small::digits(folder.path(), &out)?;
    training.args(["--set", "learner.device=cuda:4096"]);
    let mut parity = vintage(["parity", "--device", "cuda:4096"]);
    parity.arg(models());
    let weigh = vintage(["weigh", "--device", "cuda:4096", "/dev/null"]);
    let bench = vintage(["bench", "update", "--device", "cuda:4096"]);
    for command in [training, parity, weigh, bench] {
        let words = format!("{command:?}");
        let ended = run(command)?;
        ensure!(ended.status.code() == Some(2), "{words}: {}", ended.stderr);
        ensure!(
            ended.stderr.contains("opening cuda:4096: ") && !ended.stderr.contains("panicked"),
            "{words}: {}",
            ended.stderr
        );
    }
    ensure!(!out.exists(), "a run that cannot begin wrote something");

    let mut doctor = vintage(["doctor", "--output", "json", "--out"]);
    doctor.arg(&out);
    doctor.args(["--set", "learner.device=cuda:4096"]);
    let ended = run(doctor)?;
    ensure!(ended.status.code() == Some(3), "{}", ended.stderr);
    ensure!(
        ended.stdout.contains("opening cuda:4096"),
        "{}",
        ended.stdout
    );

    let mut training = small::digits(folder.path(), &out)?;
    training.args(["--set", "learner.device=gpu"]);
    let ended = run(training)?;
    ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
    for says in ["one of cpu, cuda, cuda:N", "learner.device"] {
        ensure!(ended.stderr.contains(says), "{}", ended.stderr);
    }
    Ok(())
}

/// Tests `weigh --device` on the CPU: 201 cases are weighed as the reference weighs them. In a build
/// with CUDA it computes with the operations of a GPU.
#[test]
fn weighing_on_the_cpu_agrees_with_the_reference_on_every_case() -> Result<()> {
    let cases = root().join("consumers/losses/tests/oracle/m2po_cases.jsonl");
    let mut weigh = vintage(["weigh", "--device", "cpu"]);
    weigh.arg(cases);
    let ended = run(weigh)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let mut masked = 0;
    for line in ended.stdout.lines() {
        let weighed: Value = serde_json::from_str(line)?;
        ensure!(weighed["differs"].is_null(), "{line}");
        masked += weighed["n_masked"].as_u64().context("n_masked")?;
    }
    ensure!(
        ended.stdout.lines().count() == 201 && masked > 100,
        "{masked}"
    );
    Ok(())
}

#[test]
fn a_bench_of_updates_times_both_precisions() -> Result<()> {
    let mut bench = vintage(["bench", "update", "--output", "json", "--model"]);
    bench.arg(models().join("qwen3"));
    bench.args([
        "--rows",
        "4",
        "--prompt",
        "4",
        "--completion",
        "6",
        "--updates",
        "1",
    ]);
    let measured = run(bench)?.json()?;
    let updates = measured["updates"].as_array().context("no updates")?;
    let computes: Vec<_> = updates.iter().map(|update| &update["compute"]).collect();
    ensure!(computes == ["f32", "bf16"], "{measured}");
    for update in updates {
        let positive = |key: &str| update[key].as_f64().is_some_and(|value| value > 0.0);
        ensure!(
            positive("tokens_per_second") && positive("rule_share"),
            "{measured}"
        );
    }
    Ok(())
}

/// Tests that the check for machines with a GPU fails without one and says so in one line.
#[test]
fn the_check_of_a_gpu_needs_a_gpu() -> Result<()> {
    let (folder, _) = place()?;
    let mut check = Command::new(root().join("infra/cuda/check.sh"));
    check.arg(vintage_tests::binary()).arg(folder.path());
    check.env("CUDA_VISIBLE_DEVICES", "");
    let ended = run(check)?;
    ensure!(ended.status.code() == Some(1), "{}", ended.stdout);
    ensure!(ended.stderr.lines().count() == 1, "{}", ended.stderr);
    ensure!(ended.stderr.starts_with("check.sh: "), "{}", ended.stderr);
    Ok(())
}

/// Crates of GPU code.
const GPU: &[&str] = &["model-gpu", "learner-gpu"];

/// Feature that a crate must have on to be built with GPU code.
const GPU_FEATURE: &str = "cuda";

/// GPU code is in a program only if its feature was asked for: crates above depend on it optionally,
/// by that feature alone. Tests depend on it always.
#[test]
fn gpu_code_is_compiled_by_its_feature_only() {
    let metadata = metadata();
    let mut users = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let name = short(&package.name);
        if GPU.contains(&name.as_str()) {
            continue;
        }
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Development
                || !GPU.contains(&short(&dependency.name).as_str())
            {
                continue;
            }
            let gpu = &dependency.name;
            assert!(dependency.optional, "{name} always depends on {gpu}");
            for (feature, turns_on) in &package.features {
                let names = turns_on.iter().any(|on| {
                    let on = on.strip_prefix("dep:").unwrap_or(on);
                    on.split(['/', '?']).next() == Some(gpu.as_str())
                });
                assert!(
                    !names || feature == GPU_FEATURE,
                    "feature {feature} of {name} turns {gpu} on"
                );
            }
            users.insert(name.clone());
        }
        let by_default = package.features.get("default");
        let is_on = by_default.is_some_and(|on| on.iter().any(|on| on.contains(GPU_FEATURE)));
        assert!(!is_on, "{name} has {GPU_FEATURE} on by default");
    }
    let expected: BTreeSet<_> = ["flow", "parity"].map(str::to_owned).into();
    assert_eq!(users, expected, "crates that can be built with GPU code");
}

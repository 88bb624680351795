//! Conversations: a run with an environment command, killed and resumed, and its rows token by token.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vintage_tests::{Running, audited, models, place, python, replayed, run, vintage};

use crate::small;

const STEPS: u64 = 80;
/// Chat template under which a turn looks like the prompts of [`small::prompts`].
const TEMPLATE: &str = "{% for m in messages %}{{ m.content }}\
                        {{ '<eos>' if m.role == 'assistant' else '=' }}{% endfor %}";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name)
}

/// Makes a chat model that has begun to learn to say a digit after it: the tiny decoder of a short
/// run, with a chat template.
fn chat_model(folder: &Path) -> Result<PathBuf> {
    let out = folder.join("begun");
    let mut command = small::training(&out);
    command.arg("--prompts").arg(small::prompts(folder)?);
    command.args(["--set", "warm_start.steps=120", "--set", "learner.steps=1"]);
    small::finished(command)?;
    let model = folder.join("model");
    fs::create_dir_all(&model)?;
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(out.join("weights/lead/0").join(name), model.join(name))
            .with_context(|| name.to_owned())?;
    }
    fs::write(model.join("chat_template.jinja"), TEMPLATE)?;
    Ok(model)
}

/// Writes chats that ask for a digit, of which the environment goes on.
fn prompts(folder: &Path, name: &str, digits: std::ops::Range<u8>) -> Result<PathBuf> {
    let row = |digit: u8| {
        let digit = digit.to_string();
        let row = json!({"messages": [{"role": "user", "content": digit}], "answer": digit,
            "metadata": {"digit": digit}});
        format!("{row}\n")
    };
    let path = folder.join(name);
    fs::write(&path, digits.map(row).collect::<String>())?;
    Ok(path)
}

/// Returns the command of a run with the environment `kind` of `world.py`.
fn conversing(
    folder: &Path,
    out: &Path,
    model: &Path,
    kind: &str,
    settings: &[&str],
) -> Result<Command> {
    let mut command = vintage(["run", "--output", "json", "--out"]);
    command.arg(out);
    command
        .arg("--prompts")
        .arg(prompts(folder, "train.jsonl", 0..8)?);
    command
        .arg("--heldout")
        .arg(prompts(folder, "heldout.jsonl", 8..10)?);
    let world = json!(["python3", script("world.py").display().to_string(), kind]);
    let fixed = [
        format!("rollout.environment.command={world}"),
        format!("model.path={}", model.display()),
        "rollout.group_size=8".to_owned(),
        "learner.prompts_per_update=4".to_owned(),
    ];
    for setting in fixed
        .iter()
        .map(String::as_str)
        .chain(settings.iter().copied())
    {
        command.args(["--set", setting]);
    }
    Ok(command)
}

/// Checks every row of the archive with the tokenizer and the template of transformers.
fn checked(out: &Path, kind: &str) -> Result<Value> {
    let mut command = Command::new(python());
    command.arg(script("conversations.py")).arg(out).arg(kind);
    run(command)?.json()
}

fn rewards(out: &Path, updates: std::ops::Range<u64>) -> Result<f64> {
    let count = (updates.end - updates.start) as f64;
    let of = |update: u64| -> Result<f64> {
        let result = fs::read(out.join(format!("results/lead/{update}.json")))?;
        let result: Value = serde_json::from_slice(&result)?;
        result["reward"].as_f64().context("a reward")
    };
    let sum: f64 = updates.map(of).sum::<Result<f64>>()?;
    Ok(sum / count)
}

/// A run with an environment is killed, resumed, audited and replayed; its rows hold conversations
/// token by token; and its model gets better at them.
#[test]
fn conversations_train_and_survive_a_kill() -> Result<()> {
    let (folder, out) = place()?;
    let model = chat_model(folder.path())?;
    let steps = format!("learner.steps={STEPS}");
    let settings = [
        steps.as_str(),
        "rollout.max_tokens=2",
        "learner.optimizer.lr=0.001",
        "gate.max_staleness=2",
        "evaluation.every=40",
    ];
    let command = || conversing(folder.path(), &out, &model, "digits", &settings);
    let mut process = Running::start(command()?)?;
    ensure!(process.says("training")?, "{}", process.wait()?.stderr);
    if process.runs_for(Duration::from_millis(500)) {
        process.kill()?;
    }
    let summary = small::finished(command()?)?;
    audited(&out)?;
    let replayed = replayed(&out, STEPS)?;
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed}"
    );

    let found = checked(&out, "digits")?;
    ensure!(found["rows"].as_u64() >= Some(STEPS * 4 * 8), "{found}");
    for turns in ["1", "2", "3"] {
        ensure!(found["turns"][turns].as_u64() > Some(0), "{found}");
    }
    ensure!(
        found["versions"]
            .as_array()
            .is_some_and(|all| all.len() > 20),
        "{found}"
    );
    let (first, last) = (rewards(&out, 0..10)?, rewards(&out, STEPS - 10..STEPS)?);
    ensure!(
        last > first + 0.2,
        "mean reward {first} at first, {last} in the end"
    );
    // Held-out conversations go through the environment, too: a whole one is worth 3.
    let greedy = |version: u64| -> Result<f64> {
        let path = out.join(format!("evaluations/lead/{version}.json"));
        let evaluation: Value = serde_json::from_slice(&fs::read(path)?)?;
        evaluation["greedy_accuracy"]
            .as_f64()
            .context("an accuracy")
    };
    for version in [0, 40, STEPS] {
        let accuracy = greedy(version)?;
        ensure!((0.0..=3.0).contains(&accuracy), "{accuracy}");
    }
    Ok(())
}

/// Tokens of a model that says anything are hardly ever those of their text: nothing that was sampled
/// may be tokenized again.
#[test]
fn what_was_sampled_is_never_tokenized_again() -> Result<()> {
    let (folder, out) = place()?;
    let model = models().join("llama3");
    let settings = [
        "learner.steps=3",
        "rollout.max_tokens=6",
        "rollout.environment.cut=continue",
        "evaluation.every=0",
    ];
    let command = conversing(folder.path(), &out, &model, "length", &settings)?;
    small::finished(command)?;
    replayed(&out, 3)?;
    let found = checked(&out, "length")?;
    ensure!(found["turns"]["3"] == found["rows"], "{found}");
    ensure!(found["otherwise"].as_u64() > Some(50), "{found}");
    Ok(())
}

/// Settings and inputs that make no conversation are refused before anything is written.
#[test]
fn what_makes_no_conversation_is_refused_first() -> Result<()> {
    let (folder, out) = place()?;
    let model = models().join("llama3");
    let refused = |change: &dyn Fn(&mut Command) -> Result<()>, words: &[&str]| -> Result<()> {
        let settings = ["rollout.max_tokens=6"];
        let mut command = conversing(folder.path(), &out, &model, "length", &settings)?;
        change(&mut command)?;
        let ended = run(command)?;
        ensure!(
            ended.status.code() == Some(2),
            "{:?} {}",
            ended.status,
            ended.stderr
        );
        for word in words {
            ensure!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        ensure!(!out.exists(), "something was written");
        Ok(())
    };
    let set = |command: &mut Command, setting: &str| {
        command.args(["--set", setting]);
        Ok(())
    };
    refused(
        &|command| set(command, "rollout.reward.command=[\"judge\"]"),
        &[
            "rollout.environment.command",
            "rollout.reward.command",
            "one of the two",
        ],
    )?;
    refused(
        &|_| {
            let plain = fs::read(small::prompts(folder.path())?)?;
            Ok(fs::write(folder.path().join("train.jsonl"), plain)?)
        },
        &["train.jsonl:1", "prompts.chat"],
    )?;
    refused(
        &|command| {
            set(
                command,
                "rollout.environment.command=['python3', 'no-world.py']",
            )
        },
        &["environment command", "no no-world.py"],
    )?;
    refused(
        &|command| set(command, "rollout.environment.episode_tokens=9000"),
        &["learner.micro_batch_tokens"],
    )
}

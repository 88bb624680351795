//! Models of every family, as they are published: compared with transformers, trained, exported.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vintage_store::sha256;
use vintage_tests::{Ended, Served, models, place, python, replayed, run, vintage};

use crate::small;

/// Names of the folders of [`models`] that are models.
const NAMES: [&str; 5] = [
    "llama3",
    "llama3-sharded",
    "qwen2-tied",
    "qwen2-untied",
    "qwen3",
];

fn parity(folder: &Path) -> Command {
    let mut command = vintage(["parity", "--output", "json"]);
    command.arg(folder);
    command
}

#[test]
fn parity_says_yes_and_no_and_when_there_is_nothing_to_compare() -> Result<()> {
    let all = run(parity(&models()))?.json()?;
    ensure!(all["holds"] == true, "{all}");
    let names = all["models"].as_array().context("no models")?.iter();
    let names: Vec<_> = names.map(|model| model["name"].clone()).collect();
    ensure!(names == NAMES, "{names:?}");

    let (folder, out) = place()?;
    vintage_tests::copy(&models().join("qwen2-tied"), &out)?;
    let ended = run(parity(&out))?;
    ensure!(
        ended.status.code() == Some(2),
        "no oracle: {}",
        ended.stderr
    );
    vintage_tests::copy(
        &models().join("qwen2-tied.oracle"),
        &folder.path().join("run.oracle"),
    )?;
    ensure!(run(parity(&out))?.json()?["holds"] == true);

    // An epsilon ten times too large moves logits by some 5e-4, ten times their bound.
    let config = out.join("config.json");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("1e-06", "1e-05"))?;
    let ended = run(parity(&out))?;
    ensure!(
        ended.status.code() == Some(3),
        "{}\n{}",
        ended.stdout,
        ended.stderr
    );
    let answer: Value = serde_json::from_str(&ended.stdout)?;
    let quantities = answer["models"][0]["quantities"]
        .as_array()
        .context("none")?;
    let logits = quantities
        .iter()
        .find(|q| q["name"] == "logits")
        .context("no logits")?;
    let error = logits["error"].as_f64().context("no error")?;
    ensure!(logits["holds"] == false && error > 1e-4, "{logits}");
    let mut text = vintage(["parity"]);
    text.arg(&out);
    let ended = run(text)?;
    let line = ended.stdout.lines().find(|line| line.starts_with("logits"));
    ensure!(
        line.is_some_and(|line| line.contains("OUT")),
        "{}",
        ended.stdout
    );
    Ok(())
}

/// Writes prompts of all kinds: a plain one, a chat, a published one.
fn prompts(folder: &Path) -> Result<std::path::PathBuf> {
    let rows = [
        json!({"prompt": "12 + 30 = ", "answer": "42"}),
        json!({"messages": [{"role": "system", "content": "Answer with one number."},
            {"role": "user", "content": "What is 6 * 7?"}], "answer": "42"}),
        json!({"question": "Bo has 5 pens and buys 2. How many?", "answer": "5+2\n#### 7"}),
    ];
    let path = folder.join("mixed.jsonl");
    fs::write(&path, rows.map(|row| format!("{row}\n")).concat())?;
    Ok(path)
}

/// Returns the command of a run of three updates on a model whose answers are as good as random,
/// rewarded by length.
fn training(folder: &Path, out: &Path, model: &str) -> Result<Command> {
    let judge = folder.join("judge.py");
    fs::write(
        &judge,
        "import json, sys\nfor line in sys.stdin:\n    item = json.loads(line)\n    \
         reward = len(item['completion']) / 10\n    \
         print(json.dumps({'id': item['id'], 'reward': reward}), flush=True)\n",
    )?;
    let mut command = small::training(out);
    command.arg("--prompts").arg(prompts(folder)?);
    let reward = json!(["python3", judge.display().to_string()]);
    for setting in [
        format!("model.path={model}"),
        format!("rollout.reward.command={reward}"),
        "rollout.max_tokens=6".to_owned(),
        "learner.optimizer.lr=0.01".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    Ok(command)
}

/// Tests that a model of each family is trained, replayed bit for bit, exported, and read by
/// independent code.
#[test]
fn every_family_trains_and_its_export_is_a_model() -> Result<()> {
    // `make check-transformers` sets one that has torch.
    let python = std::env::var_os("TORCH_PYTHON").map_or_else(python, Into::into);
    let mut exported = Command::new(python);
    exported.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/exported.py"));
    let mut folders = Vec::new();
    for name in NAMES {
        let (folder, out) = place()?;
        let model = models().join(name);
        let summary = small::finished(training(folder.path(), &out, &model.display().to_string())?)
            .with_context(|| name.to_owned())?;
        ensure!(summary["lost"] == 0, "{name}: {summary}");
        replayed(&out, 3)?;
        let digest = |version: u64| -> Result<Value> {
            let manifest = out.join(format!("weights/lead/{version}/manifest.json"));
            let parsed: Value = serde_json::from_slice(&fs::read(manifest)?)?;
            Ok(parsed["weights_sha256"].clone())
        };
        ensure!(digest(0)? != digest(3)?, "{name} learned nothing");

        for (version, place) in [("0", "first"), ("3", "last")] {
            let mut command = vintage(["export", "--output", "json", "--policy-version", version]);
            command.arg(&out).arg("--to").arg(folder.path().join(place));
            let answer = run(command)?.json()?;
            ensure!(
                answer["weights_sha256"] == digest(version.parse()?)?,
                "{answer}"
            );
        }
        // Version 0 is the model that was given: it has the same oracle.
        let stem = name.trim_end_matches("-sharded");
        let oracle = models().join(format!("{stem}.oracle"));
        vintage_tests::copy(&oracle, &folder.path().join("first.oracle"))?;
        let same = run(parity(&folder.path().join("first")))?.json()?;
        ensure!(same["holds"] == true, "{name}: {same}");

        exported.args([&model, &folder.path().join("last"), &oracle]);
        folders.push(folder);
    }
    // All in one process: importing transformers takes longer than everything it is asked for.
    let ended = run(exported)?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    Ok(())
}

/// Tests that the archived prompt is what the model's template makes of a chat.
#[test]
fn messages_reach_the_model_through_its_template() -> Result<()> {
    let (folder, out) = place()?;
    let model = models().join("llama3");
    let mut command = training(folder.path(), &out, &model.display().to_string())?;
    command.args(["--set", "prompts.chat=true"]);
    small::finished(command)?;
    let mut inspect = vintage(["inspect", "--output", "json", "--rows", "--limit", "1000"]);
    inspect.arg(out.join("archive"));
    let rows = run(inspect)?;
    ensure!(rows.status.success(), "{}", rows.stderr);
    let texts: Value =
        serde_json::from_slice(&fs::read(models().join("llama3.oracle/tokenizer.json"))?)?;
    let (rendered, ids) = (&texts["chat"]["rendered"], &texts["chat"]["ids"]);
    let rows = rows.stdout.lines().map(serde_json::from_str::<Value>);
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let asked = rows.iter().find(|row| row["prompt_text"] == *rendered);
    let asked = asked.with_context(|| format!("{rendered} was never asked"))?;
    // One token that begins the text, not two.
    ensure!(asked["prompt_tokens"] == *ids, "{asked}");
    let plain = "<|start_header_id|>user<|end_header_id|>\n\n12 + 30 =<|eot_id|>";
    let plain = |row: &&Value| {
        row["prompt_text"]
            .as_str()
            .is_some_and(|text| text.contains(plain))
    };
    ensure!(
        rows.iter().any(|row| plain(&row)),
        "a plain prompt is asked as a chat"
    );
    Ok(())
}

#[test]
fn a_model_by_name_comes_from_the_local_cache() -> Result<()> {
    let (folder, out) = place()?;
    let cache = folder.path().join("hub/models--Tiny--Qwen3");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    vintage_tests::copy(
        &models().join("qwen3"),
        &cache.join("snapshots").join(commit),
    )?;
    fs::create_dir_all(cache.join("refs"))?;
    fs::write(cache.join("refs/main"), commit)?;
    let train = |model: &str, out: &Path| -> Result<Command> {
        let mut command = training(folder.path(), out, model)?;
        command
            .env_remove("HF_HUB_CACHE")
            .env("HF_HOME", folder.path())
            .env("HF_HUB_OFFLINE", "1");
        Ok(command)
    };
    small::finished(train("hf://Tiny/Qwen3", &out)?)?;
    small::finished(train("Tiny/Qwen3", &folder.path().join("by-name"))?)?;

    let ended = run(train("hf://Tiny/Other", &folder.path().join("none"))?)?;
    ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("hf download Tiny/Other"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// Python script that locates the cached model with Hugging Face's own library, without network.
const SNAPSHOT: &str = "\
import huggingface_hub, sys
print(huggingface_hub.snapshot_download(sys.argv[1], local_files_only=True), end='')";

#[test]
fn a_model_that_the_cache_lacks_comes_from_the_hub() -> Result<()> {
    let (folder, out) = place()?;
    let log = folder.path().join("requests");
    // A model in three shards, of one of which the hub sends a half before the connection breaks.
    let model = models().join("llama3-sharded");
    let hub = |model: &Path| {
        let args = [OsStr::new("Tiny/Llama"), model.as_os_str(), log.as_os_str()];
        Served::start("hub.py", args, "")
    };
    let there = hub(&model)?;
    let train = |name: &str, at: &str| -> Result<Ended> {
        let mut command = training(folder.path(), &out, name)?;
        for inherited in [
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HF_TOKEN",
            "HF_TOKEN_PATH",
        ] {
            command.env_remove(inherited);
        }
        command.env("HF_HOME", folder.path()).env("HF_ENDPOINT", at);
        run(command)
    };
    // Partial download of the first shard, left by another process.
    let first = fs::read(model.join("model-00001-of-00003.safetensors"))?;
    let blobs = folder.path().join("hub/models--Tiny--Llama/blobs");
    fs::create_dir_all(&blobs)?;
    let partial = blobs.join(format!("{}.incomplete", sha256(&first)));
    fs::write(partial, &first[..100])?;
    fs::write(folder.path().join("token"), "hf_tiny\n")?;
    let trained = train("hf://Tiny/Llama", there.said())?.json()?;
    ensure!(trained["finished"] == true, "{trained}");
    let asked = fs::read_to_string(&log)?;
    let known = |line: &str| line.ends_with("Bearer hf_tiny");
    ensure!(asked.lines().all(known), "{asked}");
    let resumed = asked.lines().filter(|line| line.contains("bytes="));
    ensure!(
        resumed.count() == 3 && asked.contains("bytes=100-"),
        "{asked}"
    );

    let mut command = Command::new(python());
    command.args(["-c", SNAPSHOT, "Tiny/Llama"]);
    command
        .env_remove("HF_HUB_CACHE")
        .env("HF_HOME", folder.path());
    let snapshot = run(command)?;
    ensure!(snapshot.status.success(), "{}", snapshot.stderr);
    for file in model.read_dir()? {
        let file = file?;
        let fetched = fs::read(Path::new(&snapshot.stdout).join(file.file_name()))?;
        ensure!(fetched == fs::read(file.path())?, "{file:?} is another");
    }

    // No file is requested again, and none that the hub does not have.
    drop(there);
    fs::remove_dir_all(&out)?;
    let gone = "http://127.0.0.1:9";
    let again = train("hf://Tiny/Llama", gone)?.json()?;
    ensure!(again["finished"] == true, "{again}");
    fs::remove_dir_all(&out)?;
    let ended = train("hf://Tiny/Other", gone)?;
    ensure!(ended.status.code() == Some(1), "{}", ended.stderr);
    ensure!(ended.stderr.contains("127.0.0.1:9"), "{}", ended.stderr);
    let there = hub(&model)?;
    let ended = train("hf://Tiny/Other", there.said())?;
    ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
    ensure!(ended.stderr.contains("HF_TOKEN"), "{}", ended.stderr);

    // A model without safetensors is refused by its list of files, before anything is fetched.
    fs::remove_dir_all(folder.path().join("hub"))?;
    let pickled = folder.path().join("pickled");
    vintage_tests::copy(&models().join("qwen3"), &pickled)?;
    fs::rename(
        pickled.join("model.safetensors"),
        pickled.join("pytorch_model.bin"),
    )?;
    let there = hub(&pickled)?;
    let ended = train("hf://Tiny/Llama", there.said())?;
    ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
    let said = [
        "pytorch_model.bin is a pickle",
        "from_pretrained('Tiny/Llama')",
    ];
    ensure!(
        said.iter().all(|part| ended.stderr.contains(part)),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// Tests folders with truncation, padding, and special tokens named in one file or another: ids,
/// text and chats agree with transformers.
#[test]
fn tokenizers_are_loaded_as_transformers_loads_them() -> Result<()> {
    let (folder, _) = place()?;
    let mut made = Command::new(python());
    made.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/python/special_tokens.py"
    ));
    made.arg(models().join("llama3")).arg(folder.path());
    let made = run(made)?;
    ensure!(made.status.success(), "{}", made.stderr);
    let count: usize = made.stdout.trim().parse()?;
    let ended = run(parity(folder.path()))?;
    let answer: Value =
        serde_json::from_str(&ended.stdout).with_context(|| ended.stderr.clone())?;
    let models = answer["models"].as_array().context("no models")?;
    ensure!(
        models.len() == count && count > 30,
        "{} of {count}",
        models.len()
    );
    for model in models {
        let quantities = model["quantities"].as_array().context("none")?;
        ensure!(
            quantities.len() == 5 && quantities.iter().all(|quantity| quantity["holds"] == true),
            "{model}"
        );
    }
    Ok(())
}

/// Tests that folders whose files disagree about the end of a text, or with a tensor too many, are
/// used with a warning.
#[test]
fn what_a_model_folder_is_taken_for_is_told() -> Result<()> {
    let (folder, out) = place()?;
    let model = folder.path().join("model");
    vintage_tests::copy(&models().join("qwen3"), &model)?;
    fs::write(
        model.join("generation_config.json"),
        r#"{"eos_token_id": 280}"#,
    )?;
    let said = ["\"<|im_end|>\" (id 282) ends a completion since config.json names it"];
    let mut doctor = vintage(["doctor", "--set"]);
    doctor.arg(format!("model.path={}", model.display()));
    let doctor = run(doctor)?;
    let trained = run(training(folder.path(), &out, &model.display().to_string())?)?;
    ensure!(trained.status.success(), "{}", trained.stderr);
    for part in said {
        let shown = doctor.stdout.contains(part);
        ensure!(shown, "{}{}", doctor.stdout, doctor.stderr);
        ensure!(trained.stderr.contains(part), "{}", trained.stderr);
    }
    let config: Value = serde_json::from_slice(&fs::read(out.join("weights/lead/0/config.json"))?)?;
    ensure!(config["eos_token_id"] == json!([280, 282]), "{config}");
    Ok(())
}

/// Tests that adapters name the model they were trained on: a folder, a model of the hub, or the
/// run's own version 0.
#[test]
fn adapters_name_the_model_they_were_trained_on() -> Result<()> {
    let (folder, _) = place()?;
    let model = models().join("qwen3");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let cache = folder.path().join("hub/models--Tiny--Qwen3");
    vintage_tests::copy(&model, &cache.join("snapshots").join(commit))?;
    fs::create_dir_all(cache.join("refs"))?;
    fs::write(cache.join("refs/main"), commit)?;
    fs::write(cache.join("refs/v2"), commit)?;
    let cases = [
        (
            Some(model.display().to_string()),
            Some(model.canonicalize()?.display().to_string()),
            Value::Null,
        ),
        (
            Some("hf://Tiny/Qwen3".to_owned()),
            Some("Tiny/Qwen3".to_owned()),
            json!(commit),
        ),
        (
            Some("hf://Tiny/Qwen3@v2".to_owned()),
            Some("Tiny/Qwen3".to_owned()),
            json!("v2"),
        ),
        (None, None, Value::Null),
    ];
    for (number, (path, expected, revision)) in cases.into_iter().enumerate() {
        let out = folder.path().join(format!("run{number}"));
        let mut command = match &path {
            Some(path) => training(folder.path(), &out, path)?,
            None => small::training(&out),
        };
        command.args(["--set", "learner.lora.rank=2"]);
        command
            .env_remove("HF_HUB_CACHE")
            .env("HF_HOME", folder.path())
            .env("HF_HUB_OFFLINE", "1");
        small::finished(command)?;
        let version_0 = out.join("weights/lead/0").canonicalize()?;
        let expected = expected.unwrap_or_else(|| version_0.display().to_string());
        let mut configs = Vec::new();
        for checkpoint in out.join("checkpoints/lead").read_dir()? {
            for entry in checkpoint?.path().read_dir()? {
                let config = entry?.path().join("adapter_config.json");
                configs.extend(config.is_file().then_some(config));
            }
        }
        ensure!(!configs.is_empty(), "no adapters in {}", out.display());
        for config in configs {
            let config: Value = serde_json::from_slice(&fs::read(config)?)?;
            ensure!(
                config["base_model_name_or_path"] == json!(expected),
                "{config}"
            );
            ensure!(config["revision"] == revision, "{config}");
        }
    }
    Ok(())
}

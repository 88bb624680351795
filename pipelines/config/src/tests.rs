use std::path::PathBuf;

use vintage_control::AlgorithmName;

use super::*;

mod places;
mod recorded;

fn key(text: &str) -> Key {
    Key::parse(text).expect("a key")
}

fn resolve(layers: Layers) -> Result<Resolved<RunConfig>, ConfigError> {
    layers.resolve()
}

fn set(text: &str) -> Result<Resolved<RunConfig>, ConfigError> {
    resolve(Layers::new().set(text).expect("an assignment"))
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.toml");
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

fn env(vars: &[(&str, &str)]) -> Vec<(String, String)> {
    vars.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn the_default_preset_is_the_reference_of_the_code() {
    let preset = resolve(Layers::new().preset("default").expect("known")).expect("valid");
    assert_eq!(preset.config, RunConfig::default());
    for setting in preset.schema.settings() {
        let text = presets::find("default").expect("known");
        let name = setting.last();
        let line = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{name} = "))
                || line.starts_with(&format!("[{name}]"))
        };
        assert!(
            text.lines().any(line),
            "default.toml does not mention {setting}"
        );
    }
}

#[test]
fn every_preset_resolves() {
    for name in presets::names() {
        resolve(Layers::new().preset(name).expect("known"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let stale = resolve(Layers::new().preset("stale-256").expect("known")).expect("valid");
    assert_eq!(stale.config.gate.exact, Some(256));
    assert_eq!(stale.config.learner.steps, 1000);
    let lora = resolve(Layers::new().preset("lora").expect("known")).expect("valid");
    assert_eq!(lora.config.learner.lora.rank, Some(16));
}

#[test]
fn later_layers_win_and_every_value_knows_its_origin() {
    let (_folder, path) = file("seed = 1\n\n[learner]\nsteps = 10\nkeep_versions = 300\n");
    let layers = || {
        Layers::new()
            .preset("stale-256")
            .and_then(|layers| layers.file(&path))
            .expect("layers")
    };
    let at = |layers: Layers| {
        let resolved = resolve(layers).expect("valid");
        let origin = resolved
            .origin(&key("learner.steps"))
            .expect("a setting")
            .to_string();
        (resolved.config.learner.steps, origin)
    };
    let preset = Layers::new().preset("stale-256").expect("known");
    assert_eq!(at(Layers::new()), (400, "default".to_owned()));
    let (steps, origin) = at(preset);
    assert_eq!(steps, 1000);
    assert!(origin.starts_with("preset stale-256:"), "{origin}");
    assert_eq!(at(layers()), (10, format!("{}:4", path.display())));
    let with_env = layers().env(env(&[("VINTAGE__LEARNER__STEPS", "20"), ("OTHER", "x")]));
    assert_eq!(
        at(with_env.clone()),
        (20, "VINTAGE__LEARNER__STEPS".to_owned())
    );
    let with_set = with_env.set("learner.steps=30").expect("an assignment");
    assert_eq!(at(with_set.clone()), (30, "--set".to_owned()));
    let with_flag = with_set.flag("--steps", &key("learner.steps"), &40);
    assert_eq!(at(with_flag), (40, "--steps".to_owned()));
    // Settings that a later layer does not mention keep their values.
    let resolved = resolve(layers()).expect("valid");
    assert_eq!(resolved.config.seed, 1);
    assert_eq!(resolved.config.gate.exact, Some(256));
    assert_eq!(
        resolved.origin(&key("learner.name")),
        Some(&Origin::Default)
    );
}

#[test]
fn later_files_win_over_earlier_ones() {
    let (_a, first) = file("seed = 1\n[learner]\nsteps = 10");
    let (_b, second) = file("[learner]\nsteps = 11");
    let layers = Layers::new()
        .file(&first)
        .and_then(|layers| layers.file(&second));
    let config = resolve(layers.expect("readable")).expect("valid").config;
    assert_eq!((config.seed, config.learner.steps), (1, 11));
}

#[test]
fn the_arms_of_the_papers_case_are_one_setting_each() {
    let arm = |text: &str| {
        let layers = Layers::new()
            .preset("stale-256")
            .and_then(|layers| layers.set(text));
        resolve(layers.expect("layers")).expect("valid").config
    };
    assert_eq!(arm("algorithm=grpo").algorithm, AlgorithmName::Grpo);
    assert_eq!(arm("gate.exact=0").gate.exact, Some(0));
    assert_eq!(arm("gate.exact=none").gate.exact, None);
}

#[test]
fn texts_need_no_quotes_and_stay_texts() {
    let config = set("run=123").expect("valid").config;
    assert_eq!(config.run.as_str(), "123");
    assert_eq!(
        set("broker=\"host:9092\"").expect("valid").config.broker,
        "host:9092"
    );
    let command = set("rollout.reward.command=[\"python3\", \"s.py\"]")
        .expect("valid")
        .config;
    assert_eq!(command.rollout.reward.command, ["python3", "s.py"]);
    assert!(
        (set("learner.optimizer.lr=1")
            .expect("valid")
            .config
            .learner
            .optimizer
            .lr
            - 1.0)
            .abs()
            < 1e-12
    );
}

#[test]
fn broker_options_take_dotted_names_from_every_layer() {
    let (_folder, path) = file("[broker_options]\nsecurity.protocol = \"SSL\"\nlinger.ms = 5");
    let layers = Layers::new()
        .file(&path)
        .and_then(|layers| layers.set("broker_options.queue.buffering.max.ms=7"))
        .and_then(|layers| layers.set("broker_options.\"linger.ms\"=6"))
        .expect("layers")
        .env(env(&[("VINTAGE__BROKER_OPTIONS__CLIENT__RACK", "a")]));
    let resolved = resolve(layers).expect("valid");
    let options: Vec<_> = resolved
        .config
        .broker_options
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let expected = [
        ("client.rack", "a"),
        ("linger.ms", "6"),
        ("queue.buffering.max.ms", "7"),
        ("security.protocol", "SSL"),
    ];
    assert_eq!(options, expected);
    let again: RunConfig = toml::from_str(&resolved.to_toml()).expect("readable");
    assert_eq!(again, resolved.config);
}

fn only_problem(error: &ConfigError) -> &Problem {
    match error {
        ConfigError::Settings(problems) if problems.len() == 1 => &problems[0],
        other => panic!("expected one problem: {other}"),
    }
}

#[test]
fn an_unknown_key_fails_with_its_origin_and_a_suggestion() {
    let suggested = [
        ("learner.stpes=3", "learner.steps"),
        ("lr=3", "warm_start.lr or learner.optimizer.lr"),
        ("learner.lr=3", "learner.optimizer.lr"),
        ("learner.micro-batch-tokens=3", "learner.micro_batch_tokens"),
        ("gate.max_stalenes=3", "gate.max_staleness"),
        ("algoritm=grpo", "algorithm"),
    ];
    for (text, near) in suggested {
        let error = set(text).expect_err("unknown");
        assert_eq!(
            error.hint(),
            Some(format!("did you mean {near}?")),
            "{text}"
        );
        assert!(error.to_string().contains("(--set)"), "{error}");
    }
    let error = set("zzzzzzzzqqq=1").expect_err("unknown");
    assert_eq!(
        only_problem(&error).fault,
        SettingFault::Unknown { near: vec![] }
    );

    let (_folder, path) = file("seed = 1\n[learner]\nsteps = 3\nstpes = 4\n");
    let error = resolve(Layers::new().file(&path).expect("readable")).expect_err("unknown");
    let expected = format!("unknown setting: learner.stpes ({}:4)", path.display());
    assert_eq!(error.to_string(), expected);

    let error = resolve(Layers::new().env(env(&[("VINTAGE__LEARNER__STPES", "1")])));
    let error = error.expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "unknown setting: learner.stpes (VINTAGE__LEARNER__STPES)"
    );
}

#[test]
fn a_wrong_type_names_key_value_origin_and_expectation() {
    let names: Vec<_> = AlgorithmName::ALL
        .iter()
        .map(|name| name.as_str())
        .collect();
    let of_names = format!(
        "wrong type: algorithm = gpro (--set): expected one of {}",
        names.join(", ")
    );
    let cases = [
        (
            "learner.steps=many",
            "wrong type: learner.steps = many (--set): expected a whole number",
        ),
        (
            "learner.steps=1.5",
            "wrong type: learner.steps = 1.5 (--set): expected a whole number",
        ),
        (
            "m2po.threshold=x",
            "wrong type: m2po.threshold = x (--set): expected a number",
        ),
        (
            "learner.optimizer.decay_vectors=1",
            "wrong type: learner.optimizer.decay_vectors = 1 (--set): expected true or false",
        ),
        ("algorithm=gpro", of_names.as_str()),
        (
            "seed.x=1",
            "wrong type: seed.x = a table (--set): expected a whole number",
        ),
        ("learner=1", "learner is a section, not a setting (--set)"),
    ];
    for (text, message) in cases {
        assert_eq!(set(text).expect_err(text).to_string(), message);
    }
    let hint = set("algorithm=gpro").expect_err("unknown").hint();
    assert_eq!(hint.as_deref(), Some("did you mean \"grpo\"?"));
}

#[test]
fn values_that_serde_refuses_name_key_value_and_origin() {
    let error = set("run=My_Run").expect_err("a bad name");
    let problem = only_problem(&error);
    assert_eq!(
        (problem.key.to_string().as_str(), &problem.origin),
        ("run", &Origin::Set)
    );
    assert!(
        error
            .to_string()
            .starts_with("bad value: run = \"My_Run\" (--set): "),
        "{error}"
    );
    let error = set("learner.steps=-1").expect_err("negative");
    assert!(
        error
            .to_string()
            .starts_with("bad value: learner.steps = -1 (--set): "),
        "{error}"
    );
}

#[test]
fn ranges_are_checked_and_all_faults_are_told_at_once() {
    let layers = Layers::new()
        .set("rollout.temperature=0")
        .and_then(|layers| layers.set("learner.steps=0"))
        .and_then(|layers| layers.set("rollout.group_size=1"))
        // Plans are JSON, which has no infinity.
        .and_then(|layers| layers.set("learner.optimizer.grad_clip=inf"))
        .expect("assignments");
    let error = resolve(layers).expect_err("four faults");
    let ConfigError::Settings(problems) = &error else {
        panic!("{error}")
    };
    let keys: Vec<_> = problems
        .iter()
        .map(|problem| problem.key.to_string())
        .collect();
    let expected = [
        "rollout.group_size",
        "rollout.temperature",
        "learner.steps",
        "learner.optimizer.grad_clip",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn the_gate_must_not_starve_the_learner_nor_ask_for_lost_versions() {
    let message = |layers: Layers| resolve(layers).expect_err("refused").to_string();
    let starving = Layers::new()
        .set("learner.publish_every=20")
        .and_then(|layers| layers.set("gate.max_staleness=3"))
        .expect("assignments");
    assert!(message(starving).contains("at least learner.publish_every - 1 = 19"));
    let lost = Layers::new().set("gate.exact=256").expect("an assignment");
    assert!(message(lost).contains("must be at least 257 with gate.exact = 256"));
    let unbounded = Layers::new().set("gate.ages=tail").expect("an assignment");
    assert!(message(unbounded).contains("needs gate.exact, which bounds the ages"));
    let alone = Layers::new()
        .set("gate.ages=uniform")
        .and_then(|layers| layers.set("gate.exact=3"))
        .and_then(|layers| layers.set("learner.prompts_per_update=1"))
        .expect("assignments");
    assert!(message(alone).contains("needs several groups"));
}

#[test]
fn broken_toml_and_missing_files_are_told_apart() {
    let (_folder, path) = file("seed = \n");
    let error = Layers::new().file(&path).expect_err("broken");
    assert!(matches!(&error, ConfigError::Syntax { place, .. } if place.ends_with("my.toml")));
    let error = Layers::new()
        .file(&path.with_file_name("none.toml"))
        .expect_err("missing");
    assert!(matches!(error, ConfigError::Read { .. }));
    let error = Layers::new().preset("stale-265").expect_err("unknown");
    assert_eq!(error.hint().as_deref(), Some("did you mean stale-256?"));
    let error = Layers::new().preset("stale").expect_err("unknown");
    assert_eq!(error.hint().as_deref(), Some("did you mean stale-256?"));
    assert!(matches!(
        Layers::new().set("seed"),
        Err(ConfigError::Assignment { .. })
    ));
}

#[test]
fn paths_in_a_file_start_from_its_folder() {
    let (folder, path) = file("[prompts]\ntrain = \"mine.jsonl\"\n");
    let config = resolve(Layers::new().file(&path).expect("readable"))
        .expect("valid")
        .config;
    assert_eq!(
        config.prompts.train,
        Some(folder.path().join("mine.jsonl").into())
    );
    let config = set("prompts.train=mine.jsonl").expect("valid").config;
    let here = std::env::current_dir().expect("a working directory");
    assert_eq!(config.prompts.train, Some(here.join("mine.jsonl").into()));
}

#[test]
fn what_is_shown_reads_back_with_origins() {
    let layers = Layers::new()
        .preset("stale-256")
        .and_then(|layers| layers.set("seed=7"));
    let resolved = resolve(layers.expect("layers")).expect("valid");
    let text = resolved.to_toml();
    assert_eq!(
        toml::from_str::<RunConfig>(&text).expect("readable"),
        resolved.config
    );
    let recorded = read_recorded(&text).expect("TOML");
    let find = |name: &str| {
        recorded
            .iter()
            .find(|line| line.key == key(name))
            .expect("recorded")
    };
    assert_eq!(find("seed").origin.as_deref(), Some("--set"));
    assert_eq!(find("algorithm").value, "\"m2po\"");
    assert_eq!(find("learner.name").origin.as_deref(), Some("default"));
    assert!(text.contains("# max_age = none"), "{text}");
    assert!(!resolved.show(&Key::root(), false).contains("--set"));
    assert_eq!(
        resolved.show(&key("grpo"), false),
        "[grpo]\nclip_eps = 0.2\n"
    );
    assert_eq!(resolved.to_json(&key("seed"))["seed"]["origin"], "--set");
}

#[test]
fn a_run_resumes_with_other_steps_and_nothing_else() {
    let old = RunConfig::default();
    let mut new = old.clone();
    new.learner.steps = 900;
    new.learner.keep_versions = 9;
    new.archive.roll_seconds = 1.0;
    let folder = std::path::Path::new("runs/a");
    check_resumable(&new, &old, folder).expect("safe changes");
    new.seed = 3;
    new.learner.optimizer.lr = 1e-3;
    new.gate.exact = Some(2);
    let error = check_resumable(&new, &old, folder).expect_err("unsafe changes");
    let ConfigError::NotResumable { changes, .. } = &error else {
        panic!("{error}")
    };
    let changes: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.key.to_string(),
                change.old.as_str(),
                change.new.as_str(),
            )
        })
        .collect();
    let expected = [
        ("gate.exact".to_owned(), "none", "2"),
        ("learner.optimizer.lr".to_owned(), "0.0001", "0.001"),
        ("seed".to_owned(), "0", "3"),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn the_built_in_prompts_are_running_sums_and_held_out_ones_are_disjoint() {
    let rows = |path: &str| -> Vec<(String, String)> {
        let text = presets::data(path).expect("built in");
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let field = |name: &str| row[name].as_str().expect("a text").to_owned();
            (field("prompt"), field("answer"))
        };
        text.lines().map(row).collect()
    };
    let (train, heldout) = (rows("chain6/train.jsonl"), rows("chain6/heldout.jsonl"));
    assert_eq!((train.len(), heldout.len()), (16384, 1024));
    let weighted = |prompt: &str| -> u32 {
        (1..)
            .zip(prompt.chars().filter_map(|c| c.to_digit(10)))
            .map(|(i, x)| i * x)
            .sum()
    };
    assert!(train.iter().all(|(prompt, _)| weighted(prompt) % 7 != 0));
    assert!(heldout.iter().all(|(prompt, _)| weighted(prompt) % 7 == 0));
    let unique: std::collections::BTreeSet<_> = train.iter().collect();
    assert_eq!(unique.len(), train.len());
}

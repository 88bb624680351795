use std::{collections::BTreeMap, path::Path};
use vintage_config::{Layers, Resolved};

use vintage_control::{
    CONTROL_FORMAT, EvaluationResult, PolicyVersion, Sha256, UpdateNumber, UpdateResult,
};

use super::*;

async fn written(folder: &Path) -> Result<WrittenReport> {
    let store = Store::open(&folder.to_string_lossy())?;
    let reader = Reader::new(store.at("archive"), "vintage.run.rollouts.v1");
    write(folder, &store, Ok(&reader)).await
}

fn result(version: u64) -> UpdateResult {
    let x = version as f64;
    UpdateResult {
        format: CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().expect("a name"),
        policy: "lead".parse().expect("a name"),
        version: PolicyVersion(version),
        weights_sha256: Sha256([7; 32]),
        skipped: None,
        loss: -0.01,
        grad_norm: 0.2 + 0.05 * (0.7 * x).sin(),
        groups: 16,
        rows: 128,
        tokens: 768,
        all_tokens: 1664,
        trust_tokens: 400,
        masked_tokens: version % 40,
        clip_fraction: (version % 40) as f64 / 768.0,
        m2_before: if version == 0 {
            0.0
        } else {
            0.2 * (-x / 60.0).exp() + 0.003
        },
        m2_after: if version == 0 {
            0.0
        } else {
            (0.2 * (-x / 60.0).exp() + 0.003).min(0.04)
        },
        m2_all: 0.05,
        kl: 0.01,
        max_log_ratio: 1.0,
        clamped_tokens: 0,
        entropy: 0.4 * (-x / 150.0).exp() + 0.03 * (1.3 * x).sin().abs(),
        reward: 1.0 - 0.7 * (-x / 120.0).exp() + 0.04 * (2.1 * x).sin(),
        equal_groups: None,
        cut_rows: None,
        reused_groups: 0,
        kl_reference: None,
        gradient_cosine: None,
        effective_rows: None,
        effective_tokens: None,
        concentrability: None,
        kl_previous: None,
        mean_staleness: (x / 2.0).min(8.0) + (0.3 * x).sin().abs(),
        max_staleness: version.min(17),
        staleness: BTreeMap::from([
            (version.min(4), 300),
            (version.min(9), 400),
            (version.min(17), 68),
        ]),
        lag_tokens: 0,
        mismatch: Vec::new(),
        wait_seconds: 0.02 + 0.015 * (0.1 * x).sin().abs(),
        update_seconds: 0.03,
        record_seconds: 0.008,
        finished_at_ms: 1_795_000_000_000 + version as i64 * 60,
    }
}

fn evaluation(version: u64) -> EvaluationResult {
    EvaluationResult {
        format: CONTROL_FORMAT.to_owned(),
        policy: "lead".parse().expect("a name"),
        version: PolicyVersion(version),
        sampled_accuracy: 0.965 - 0.675 * (-(version as f64) / 120.0).exp(),
        greedy_accuracy: 1.0,
        samples: 512,
        seconds: 0.2,
        examples: vec![vintage_control::EvaluationExample {
            prompt_id: "7".to_owned(),
            prompt: "2+2=".to_owned(),
            answer: Some("4".to_owned()),
            completion: format!("<{version}>"),
            reward: version as f64,
        }],
    }
}

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("below the folder")).expect("created");
    std::fs::write(path, text).expect("written");
}

/// Creates a run's folder with `updates` results.
fn run(folder: &Path, updates: u64) {
    run_with(folder, updates, &[]);
}

fn run_with(folder: &Path, updates: u64, settings: &[&str]) {
    let settings = ["learner.steps=400", "seed=3"].iter().chain(settings);
    let layers = settings
        .into_iter()
        .try_fold(Layers::new(), |layers, setting| layers.set(setting));
    let resolved: Resolved = layers.expect("layers").resolve().expect("valid");
    put(folder, "config.toml", &resolved.to_toml());
    let json = |value: &serde_json::Value| value.to_string();
    for version in 0..updates {
        let result = serde_json::to_value(result(version)).expect("JSON");
        put(
            folder,
            &format!("results/lead/{version}.json"),
            &json(&result),
        );
    }
    for version in (0..=updates).step_by(25) {
        let evaluation = serde_json::to_value(evaluation(version)).expect("JSON");
        put(
            folder,
            &format!("evaluations/lead/{version}.json"),
            &json(&evaluation),
        );
    }
}

fn summary(folder: &Path) {
    let summary = serde_json::json!({
        "updates": 400, "produced": 6750, "trained": 6400, "in_flight": 338, "lost": 0,
        "rejected": { "too_stale": 9, "bad_logprob": 3 },
        "weights_sha256": "9c".repeat(32), "archived_rows": 54000,
    });
    put(folder, "summary.json", &summary.to_string());
}

#[tokio::test]
async fn the_head_tells_how_it_was_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [
        "learner.lora.rank=8",
        "learner.compute=bf16",
        "model.path=hf://Tiny/Llama",
        "rollout.reward.command=[\"score\"]",
    ];
    run_with(folder.path(), 30, &settings);
    let report = written(folder.path()).await.expect("a report");
    let page = std::fs::read_to_string(&report.path).expect("written");
    let head = page.split_once("</header>").expect("a head").0;
    for text in [
        "<b>LoRA</b> of rank 8",
        "<b>bf16</b>",
        "model <b>hf://Tiny/Llama</b>",
    ] {
        assert!(head.contains(text), "no {text:?} in {head}");
    }
    assert!(page.contains("Mean reward on 512 held-out prompts."));
}

#[tokio::test]
async fn a_report_stands_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), 400);
    summary(folder.path());
    let report = written(folder.path()).await.expect("a report");
    assert_eq!((report.updates, report.evaluations), (400, 17));
    let page = std::fs::read_to_string(&report.path).expect("written");
    for outside in [
        "http:", "https:", "//", "url(", "@import", "<script", "<link", "<img", "src=",
    ] {
        assert!(
            !page.contains(outside),
            "the page refers to something outside itself: {outside}"
        );
    }
    // Every placeholder colour must have become a variable, so that dark mode applies to
    // everything.
    assert!(!page.contains("#0100"), "a chart kept a placeholder colour");
    assert_eq!(page.matches("<svg").count(), 12);
    assert!(page.len() < 600_000, "{} bytes", page.len());
    for text in [
        "94.1 %",
        "too stale",
        "<b>6,750</b> produced = ",
        "τ = 0.04",
        "--set",
        "learner.optimizer.lr",
        "Version 0, reward 0.000</p><pre dir=\"auto\">\n&lt;0&gt;</pre>",
        "Version 400, reward 400.000</p><pre dir=\"auto\">\n&lt;400&gt;</pre>",
    ] {
        assert!(page.contains(text), "no {text:?} in the page");
    }
}

#[tokio::test]
async fn an_unbalanced_account_is_shown_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), 3);
    let summary = serde_json::json!({
        "produced": 50, "trained": 48, "in_flight": 1, "lost": 0, "rejected": {},
    });
    put(folder.path(), "summary.json", &summary.to_string());
    written(folder.path()).await.expect("a report");
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert!(page.contains("<b>50</b> produced ≠ "));
}

#[tokio::test]
async fn a_run_that_has_only_begun_has_a_report() {
    for updates in [0, 1] {
        let folder = tempfile::tempdir().expect("a folder");
        run(folder.path(), updates);
        written(folder.path()).await.expect("a report");
        let page = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
        assert!(page.contains("not finished"));
        assert!(page.contains("The account is made when"));
    }
}

#[tokio::test]
async fn rejections_of_a_killed_run_are_counted_from_its_plans() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), 2);
    let plan = r#"{"version":0,"rejections":[{"reason":"too_stale"},{"reason":"too_stale"}]}"#;
    put(folder.path(), "plans/lead/0.json", plan);
    written(folder.path()).await.expect("a report");
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert!(page.contains("<td>too stale</td><td>2</td>"));
}

#[tokio::test]
async fn texts_of_the_settings_cannot_break_the_page() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), 1);
    let config = "broker = \"<script>alert(1)</script>\"  # <b>file\n";
    put(folder.path(), "config.toml", config);
    written(folder.path()).await.expect("a report");
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("written");
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
    assert!(!page.contains("<b>file"));
}

#[tokio::test]
async fn what_is_no_run_and_what_is_damaged_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = written(folder.path()).await.expect_err("empty");
    assert!(error.to_string().contains("no config.toml"), "{error}");
    run(folder.path(), 2);
    put(folder.path(), "results/lead/1.json", "{\"format\":");
    let error = written(folder.path())
        .await
        .expect_err("damaged")
        .to_string();
    assert!(error.contains("results/lead/1.json"), "{error}");
    assert!(!folder.path().join("report.html").exists());
}

/// Writes the report of a made-up run to the folder in `VINTAGE_REPORT_SAMPLE`, for inspection.
#[tokio::test]
async fn a_made_up_run_can_be_looked_at() {
    let kept = std::env::var_os("VINTAGE_REPORT_SAMPLE").map(std::path::PathBuf::from);
    let folder = tempfile::tempdir().expect("a folder");
    let path = kept.unwrap_or_else(|| folder.path().to_owned());
    run(&path, 397);
    summary(&path);
    assert!(written(&path).await.expect("a report").bytes > 10_000);
}

#[tokio::test]
async fn learners_of_one_run_stand_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), 30);
    let golden = include_str!("../../../schemas/control/tests/golden/plan.json");
    let mut plan: serde_json::Value = serde_json::from_str(golden).expect("JSON");
    plan["version"] = 0.into();
    put(folder.path(), "plans/lead/0.json", &plan.to_string());
    let alone = written(folder.path()).await.expect("a report");
    assert_eq!(alone.learners, [], "there is nothing to compare");

    (plan["learner"], plan["policy"]) = ("arm-b".into(), "arm-b".into());
    plan["follows"] = "lead".into();
    plan["algorithm"]["name"] = "grpo".into();
    put(folder.path(), "plans/arm-b/0.json", &plan.to_string());
    for version in 0..10 {
        let mut result = result(version);
        result.learner = "arm-b".parse().expect("a name");
        result.reward = 0.25;
        let result = serde_json::to_string(&result).expect("JSON");
        put(
            folder.path(),
            &format!("results/arm-b/{version}.json"),
            &result,
        );
    }
    let report = written(folder.path()).await.expect("a report");
    let names: Vec<_> = report
        .learners
        .iter()
        .map(|one| one.learner.as_str())
        .collect();
    assert_eq!(names, ["lead", "arm-b"], "the lead comes first");
    let arm = &report.learners[1];
    assert_eq!((arm.updates, arm.groups, arm.reward), (10, 160, 0.25));
    assert_eq!(
        arm.follows.as_ref().map(vintage_control::Name::as_str),
        Some("lead")
    );
    let page = std::fs::read_to_string(&report.path).expect("written");
    assert!(page.contains("<td>arm-b</td><td>grpo</td><td>of lead</td>"));
    assert!(page.contains("<td>29.0 % → 41.7 %</td><td>100.0 % → 100.0 %</td>"));
    assert!(
        page.contains("<td>not evaluated</td>"),
        "nobody evaluated the other"
    );
    assert_eq!(
        page.matches("<svg").count(),
        12 + 6,
        "the run's own figures, and six of its learners"
    );
}

#[test]
fn updates_without_a_result_are_told() {
    let mut results: Vec<_> = (0..6).map(result).collect();
    assert!(super::missing(&results).is_empty());
    results.remove(2);
    assert_eq!(super::missing(&results), [UpdateNumber(2)]);
}

#[tokio::test]
async fn runs_stand_side_by_side_with_the_settings_that_differ() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    run(&a, 100);
    run_with(
        &b,
        60,
        &["algorithm=grpo", "rollout.reward.command=[\"score\"]"],
    );
    let open = |path: &Path| Store::open(&path.to_string_lossy()).expect("a store");
    let runs = [(a.as_path(), open(&a)), (b.as_path(), open(&b))];
    let to = folder.path().join("page.html");
    let written = compare(&runs, &to).await.expect("a page");
    let names: Vec<_> = written.runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        (written.runs[0].updates, written.runs[1].updates),
        (100, 60)
    );
    let greedy = |run: &ComparedRun| held_out_texts(run.held_out)[1].clone();
    let held_out: Vec<_> = written.runs.iter().map(greedy).collect();
    assert_eq!(held_out[0], "100.0 % → 100.0 %");
    assert_eq!(held_out[1], "1.000 → 1.000", "a program judged");
    // The folder of the command is recorded with it.
    let keys: Vec<_> = written.settings.keys().map(String::as_str).collect();
    let expected = [
        "algorithm",
        "rollout.reward.command",
        "rollout.reward.directory",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        written.settings["algorithm"],
        [Some("m2po".to_owned()), Some("grpo".to_owned())]
    );

    let page = std::fs::read_to_string(&to).expect("written");
    assert!(!page.contains("<script") && !page.contains("#0100") && !page.contains("src="));
    assert_eq!(page.matches("<svg").count(), 6);
    // Values are there for the pointer, of both runs where both have some.
    assert!(
        page.contains("<title>updates 0 to 2\na "),
        "no values for the pointer"
    );
    assert!(page.contains("<title>version 0\na 0.29\nb 0.29</title>"));
}

#[tokio::test]
async fn runs_of_one_name_are_told_apart_by_their_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = ["x/one", "y/one"].map(|name| folder.path().join(name));
    let open = |path: &std::path::PathBuf| {
        run(path, 1);
        Store::open(&path.to_string_lossy()).expect("a store")
    };
    let opened: Vec<_> = runs
        .iter()
        .map(|path| (path.as_path(), open(path)))
        .collect();
    let to = folder.path().join("page.html");
    let written = compare(&opened, &to).await.expect("a page");
    let names = written
        .runs
        .iter()
        .map(|run| std::path::PathBuf::from(&run.name));
    assert_eq!(names.collect::<Vec<_>>(), runs);
    assert!(written.settings.is_empty());
    assert!(
        std::fs::read_to_string(&to)
            .expect("written")
            .contains("<p>None.</p>")
    );
}

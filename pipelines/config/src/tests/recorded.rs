//! Recorded settings of a run, and what must not be recorded.

use vintage_settings::BuiltInTask;

use super::*;

#[test]
fn a_recorded_run_is_a_base_that_keeps_its_origins() {
    let layers = Layers::new()
        .preset("stale-256")
        .and_then(|layers| layers.set("seed=7"));
    let first = resolve(layers.expect("layers")).expect("valid");
    let (_folder, path) = file(&first.to_toml());
    let again = || Layers::new().recorded(&path).expect("readable");
    let resumed = resolve(again()).expect("valid");
    assert_eq!(resumed.config, first.config);
    assert_eq!(resumed.to_toml(), first.to_toml());
    let longer = resolve(again().set("learner.steps=1200").expect("an assignment")).expect("valid");
    assert_eq!(longer.config.learner.steps, 1200);
    assert_eq!(longer.config.seed, 7);
    // The metrics endpoint belongs to this process, whatever the recorded settings say.
    let listen = "metrics.listen=127.0.0.1:9100";
    let here = Layers::new().set(listen).expect("an assignment");
    let here = resolve(here.recorded(&path).expect("readable")).expect("valid");
    assert!(here.config.metrics.listen.is_some());
    let there = Layers::new().set(listen).expect("an assignment");
    let (_folder, path) = file(&resolve(there).expect("valid").to_toml());
    let resumed = resolve(Layers::new().recorded(&path).expect("readable")).expect("valid");
    assert_eq!(resumed.config.metrics.listen, None);
}

#[test]
fn secrets_are_referred_to_and_literal_ones_refused_unseen() {
    for (section, option) in [
        ("broker_options", "sasl.password"),
        ("broker_options", "ssl.key.pem"),
        ("store_options", "aws_secret_access_key"),
        ("store_options", "aws_session_token"),
    ] {
        let of = |value: &str| {
            let layers = Layers::new().set("store=s3://bucket").expect("a setting");
            resolve(
                layers
                    .set(&format!("{section}.{option}={value}"))
                    .expect("a setting"),
            )
        };
        let error = of("hunter2").expect_err("a literal secret");
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(option) && shown.contains("env:NAME"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        // The reference is shown and recorded, not the value it names.
        let resolved = of("env:CARGO_PKG_NAME").expect("a reference");
        let shown = resolved.to_toml() + &resolved.to_json(&Key::root()).to_string();
        assert!(shown.contains("env:CARGO_PKG_NAME"), "{shown}");
        assert!(!shown.contains(env!("CARGO_PKG_NAME")), "{shown}");
    }
}

/// A run that was begun when there was one built-in task goes on with it, whatever the default is now.
#[test]
fn a_run_of_an_older_build_keeps_its_task() {
    let task = |resolved: &Resolved<RunConfig>| resolved.config.prompts.task;
    let (_folder, path) = file("seed = 3\n\n[prompts]\nchat = false\n");
    let resumed = resolve(Layers::new().recorded(&path).expect("readable")).expect("valid");
    assert_eq!(task(&resumed), BuiltInTask::Sums);
    let key = Key::parse("prompts.task").expect("a key");
    let origin = resumed.origin(&key).expect("a setting").to_string();
    assert!(origin.contains("before there was this setting"), "{origin}");
    let read = crate::read(&path).expect("readable");
    assert_eq!(read, resumed.config);
    crate::check_resumable(&resumed.config, &read, &path).expect("unchanged");
    // A new run with the same file has the default, and one that was begun with a task keeps it.
    let new = resolve(Layers::new().file(&path).expect("readable")).expect("valid");
    assert_eq!(task(&new), RunConfig::default().prompts.task);
    let other = resolve(
        Layers::new()
            .set("prompts.task=evens_first")
            .expect("a setting"),
    );
    let (_folder, path) = file(&other.expect("valid").to_toml());
    let resumed = resolve(Layers::new().recorded(&path).expect("readable")).expect("valid");
    assert_eq!(task(&resumed), BuiltInTask::EvensFirst);
}

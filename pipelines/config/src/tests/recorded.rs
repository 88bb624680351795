//! Recorded settings of a run, and what must not be recorded.

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

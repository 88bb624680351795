use std::path::{Path, PathBuf};

use vintage_settings::Device;

use super::{Compared, Measure, Parity};

/// Returns the folder with oracles of every model family, computed with transformers in float64.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/parity")
}

fn compare(folder: &Path) -> crate::Result<Parity> {
    super::compare(folder, Device::Cpu)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Creates a copy of `qwen3` and its oracle that may be changed.
fn changeable() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    for name in ["qwen3", "qwen3.oracle"] {
        copy(&data().join(name), &root.path().join(name));
    }
    let model = root.path().join("qwen3");
    (root, model)
}

fn only(parity: &Parity) -> &Compared {
    assert_eq!(parity.models.len(), 1);
    &parity.models[0]
}

fn failed(model: &Compared) -> Vec<&str> {
    let quantities = model.quantities.iter();
    let failed = quantities.filter(|quantity| !quantity.holds);
    failed.map(|quantity| quantity.name.as_str()).collect()
}

/// Checks every model family by the CPU kernels, and by decoder and rule on a device, to equal
/// tolerances.
#[test]
fn every_family_agrees_with_transformers() {
    let [kernels, device] = [Device::Cpu, Device::Emulated].map(|device| {
        let parity = super::compare(&data(), device).unwrap();
        agrees(&parity);
        parity.models
    });
    for (kernels, device) in kernels.iter().zip(&device) {
        let errors = |model: &Compared| -> Vec<f64> {
            let of_model = model.quantities.iter().filter(|q| q.name == "logits");
            of_model.map(|quantity| quantity.error).collect()
        };
        assert_ne!(errors(kernels), errors(device), "the same code ran twice");
    }
}

fn agrees(parity: &Parity) {
    let names: Vec<_> = parity
        .models
        .iter()
        .map(|model| model.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "llama3",
            "llama3-sharded",
            "qwen2-tied",
            "qwen2-untied",
            "qwen3"
        ]
    );
    for model in &parity.models {
        for quantity in &model.quantities {
            assert!(quantity.holds, "{}: {quantity:?}", model.name);
            assert!(quantity.compared > 0, "{}: {quantity:?}", model.name);
        }
        assert!(model.holds, "{}: {:?}", model.name, model.error);
        // One oracle is complete; of the other oracles' step files only two are kept here, for their size.
        let absent: &[&str] = match model.name.as_str() {
            "qwen3" => &[],
            _ => &["adamw_decay_2d_step1.safetensors"],
        };
        assert_eq!(model.absent, absent, "{}", model.name);
    }
    assert!(parity.holds && parity.without_oracle.is_empty());
}

#[test]
fn everything_the_oracle_holds_is_compared() {
    let parity = compare(&data().join("qwen3")).unwrap();
    let mut names: Vec<_> = only(&parity)
        .quantities
        .iter()
        .map(|quantity| quantity.name.as_str())
        .collect();
    names.dedup();
    let steps = |decay: &str| {
        let parts = [
            "loss",
            "gradient_norm",
            "counts",
            "step1",
            "step2",
            "step5",
            "alone",
        ];
        parts.map(|part| format!("adamw_{decay}_{part}"))
    };
    let (in_2d, in_all) = (steps("2d"), steps("all"));
    let expected = [
        "token_ids",
        "token_ids_without_special",
        "decoded_text",
        "rendered_chat",
        "chat_ids",
        "stop_ids",
        "logits",
        "logprobs_t0.7",
        "logprobs_t1.0",
        "greedy",
        "m2po_logprobs",
        "keep_mask",
        "counts",
        "loss",
        "gradient_norm",
        "gradient_names",
        "gradient",
    ];
    let expected = expected.into_iter().chain(in_2d.iter().map(String::as_str));
    let expected: Vec<_> = expected.chain(in_all.iter().map(String::as_str)).collect();
    assert_eq!(names, expected);
}

/// Checks that a weight that is off by one part in 300 is found, which is far above the error of
/// f32.
#[test]
fn a_changed_weight_is_found_in_every_number() {
    let (_root, model) = changeable();
    let file = model.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    // The last tensor: v_proj of the last layer.
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let parity = compare(&model).unwrap();
    let model = only(&parity);
    assert!(!parity.holds && !model.holds && model.error.is_none());
    for name in [
        "logits",
        "logprobs_t1.0",
        "m2po_logprobs",
        "loss",
        "gradient",
    ] {
        assert!(
            failed(model).contains(&name),
            "{name} in {:?}",
            failed(model)
        );
    }
    assert!(!failed(model).contains(&"token_ids"));
}

#[test]
fn a_changed_expectation_is_found_where_it_is() {
    let (root, model) = changeable();
    let oracle = root.path().join("qwen3.oracle");
    let change = |file: &str, from: &str, to: &str| {
        let path = oracle.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    change(
        "tokenizer.json",
        "What is 6 * 7?<|im_end|>",
        "What is 6 * 8?<|im_end|>",
    );
    change("greedy.json", "234", "233");
    change("m2po.json", "\"n_masked\": 3", "\"n_masked\": 4");
    change("m2po.json", "\"loss\": 0.164", "\"loss\": 0.165");
    let parity = compare(&model).unwrap();
    let expected = ["rendered_chat", "chat_ids", "greedy", "counts", "loss"];
    assert_eq!(failed(only(&parity)), expected);
    let greedy = only(&parity)
        .quantities
        .iter()
        .find(|q| q.name == "greedy")
        .unwrap();
    assert_eq!((greedy.measure, greedy.error), (Measure::Different, 1.0));
    assert!(
        greedy
            .worst
            .as_ref()
            .unwrap()
            .contains("expected Some(233)")
    );
}

#[test]
fn what_an_oracle_lacks_is_named_and_the_rest_compared() {
    let (root, model) = changeable();
    let oracle = root.path().join("qwen3.oracle");
    for file in [
        "greedy.json",
        "adamw_decay_all_step1.safetensors",
        "tokenizer.json",
    ] {
        std::fs::remove_file(oracle.join(file)).unwrap();
    }
    std::fs::remove_file(model.join("generation_config.json")).unwrap();
    let parity = compare(&model).unwrap();
    assert!(parity.holds, "{parity:?}");
    let model = only(&parity);
    assert_eq!(
        model.absent,
        [
            "tokenizer.json",
            "greedy.json",
            "adamw_decay_all_step1.safetensors"
        ]
    );
    assert!(
        model
            .quantities
            .iter()
            .all(|quantity| quantity.name != "stop_ids")
    );
}

#[test]
fn a_model_that_cannot_be_compared_says_why_and_the_others_are() {
    let (root, model) = changeable();
    let other = root.path().join("other");
    copy(&model, &other);
    copy(
        &root.path().join("qwen3.oracle"),
        &root.path().join("other.oracle"),
    );
    copy(&model, &root.path().join("alone"));
    std::fs::write(other.join("config.json"), "{}").unwrap();
    let parity = compare(root.path()).unwrap();
    assert!(!parity.holds);
    assert_eq!(parity.without_oracle, ["alone"]);
    let [broken, whole] = &parity.models[..] else {
        panic!("{parity:?}")
    };
    assert!(whole.holds && !broken.holds);
    assert!(broken.error.as_ref().unwrap().contains("model_type"));

    std::fs::write(
        root.path().join("qwen3.oracle/forward.safetensors"),
        b"short",
    )
    .unwrap();
    let parity = compare(&model).unwrap();
    let error = only(&parity).error.as_ref().unwrap();
    assert!(error.contains("forward.safetensors"), "{error}");
}

/// Checks that omissions are reported, and that an oracle without its model fails the comparison.
#[test]
fn an_oracle_without_its_model_or_without_a_value_is_no_agreement() {
    let (root, model) = changeable();
    assert!(compare(root.path()).unwrap().whole);
    let greedy = root.path().join("qwen3.oracle/greedy.json");
    std::fs::write(greedy, "[]").unwrap();
    let parity = compare(&model).unwrap();
    assert!(parity.holds && !parity.whole);
    assert_eq!(only(&parity).absent, ["value to compare greedy with"]);
    let orphan = root.path().join("gone.oracle");
    copy(&root.path().join("qwen3.oracle"), &orphan);
    let parity = compare(root.path()).unwrap();
    assert_eq!(parity.without_model, ["gone.oracle"]);
    assert!(!parity.holds && parity.models.iter().all(|model| model.holds));
}

#[test]
fn a_folder_without_models_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let message = compare(empty.path()).unwrap_err().to_string();
    assert!(message.contains("config.json"), "{message}");
    copy(&data().join("qwen3"), &empty.path().join("alone"));
    let message = compare(empty.path()).unwrap_err().to_string();
    assert!(
        message.contains("alone") && message.contains(".oracle"),
        "{message}"
    );
    assert!(compare(Path::new("/nowhere")).is_err());
}

/// Checks that a measured float32 error of transformers, which is large for large models, widens
/// our bound on the same quantity and on no other.
#[test]
fn a_measured_error_widens_its_bound_and_no_other() {
    let (root, model) = changeable();
    let measured = r#"{"qwen3": {"float32_transformers": {"eager": {"logits_max_abs": 1e-3,
        "grad_rel_l2_worst_tensor": [1e-2, "x"], "adamw_2d_step1": {"p999": 1e-7}},
        "sdpa": {"logits_max_abs": 2e-3}}}}"#;
    std::fs::write(root.path().join("tolerances.json"), measured).unwrap();
    let parity = compare(&model).unwrap();
    let tolerance = |name: &str, measure| {
        let mut quantities = only(&parity).quantities.iter();
        let found = quantities.find(|q| q.name == name && q.measure == measure);
        found.unwrap().tolerance
    };
    assert_eq!(tolerance("logits", Measure::Absolute), 1e-2);
    assert_eq!(tolerance("gradient", Measure::L2), 5e-2);
    assert_eq!(tolerance("gradient", Measure::Maximum), 2e-5);
    assert_eq!(tolerance("adamw_2d_step1", Measure::P999), 2e-6);
}

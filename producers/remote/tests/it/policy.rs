//! A tiny policy with several versions in a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use vintage_control::{LoraSettings, Name, PolicyVersion, Precision};
use vintage_delta::merge;
use vintage_local::LocalEngine;
use vintage_model::{Decoder, DecoderConfig, ModelFolder, ParamSet, Tokenizer};
use vintage_rollout::{Form, Prompt, Sample, SampleRequest, Sampling, group_seed};
use vintage_settings::{EngineKind, RolloutConfig};
use vintage_store::{ADAPTER_FILES, MODEL_FILE, Store, Weights};
use vintage_trajectory::GroupId;

pub(crate) const PLAIN: Sampling = Sampling {
    max_tokens: 12,
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
};

pub(crate) fn name() -> Name {
    "main".parse().unwrap()
}

/// Creates version 0 of a policy over digits, and saves it as a folder for the server too.
pub(crate) async fn create(folder: &Path) -> Weights {
    let characters: BTreeSet<_> = "0123456789+=".chars().collect();
    let tokenizer = Tokenizer::characters(&characters).unwrap();
    let config = DecoderConfig::tiny(tokenizer.vocab_size());
    let params = ParamSet::init(&config, 0).unwrap();
    let base = ModelFolder::new(config, tokenizer, params).unwrap();
    base.save(folder.join("base")).unwrap();
    let files = base.files().unwrap().into_iter();
    let files = files.map(|(name, bytes)| (name, Bytes::from(bytes)));
    let store = Store::open(folder.join("run").to_str().unwrap()).unwrap();
    let weights = Weights::new(store, name());
    let _ = weights
        .publish(PolicyVersion(0), files.collect())
        .await
        .unwrap();
    weights
}

/// Publishes another version, with weights of its own.
pub(crate) async fn publish(weights: &Weights, version: u64) {
    let config = ModelFolder::from_files_without_weights(&files(weights).await).unwrap();
    let params = ParamSet::init(&config.config, version).unwrap();
    let bytes = Bytes::from(params.to_safetensors().unwrap());
    let files = vec![("model.safetensors", bytes)];
    let _ = weights
        .publish(PolicyVersion(version), files)
        .await
        .unwrap();
}

/// Publishes another version as adapters of this rank on version 0, with values of its own.
pub(crate) async fn publish_adapters(weights: &Weights, version: u64, rank: usize) {
    let folder = ModelFolder::from_files_without_weights(&files(weights).await).unwrap();
    let base = weights.fetch(PolicyVersion(0)).await.unwrap();
    let params = ParamSet::from_safetensors(&base, &folder.config).unwrap();
    let decoder = Decoder::new(folder.config, params).unwrap();
    let lora = LoraSettings {
        rank,
        alpha: 2.0 * rank as f64,
        target_modules: vec!["q_proj".to_owned(), "up_proj".to_owned()],
    };
    let decoder = decoder.with_adapters(lora, version).unwrap();
    let files = decoder.peft_files(None).unwrap();
    let (drawn, config) = (changed(&files[0].1, version), files[1].1.clone());
    let whole = merge(&base, &drawn, &config, Precision::F32).unwrap();
    let files = vec![
        (MODEL_FILE, Bytes::from(whole)),
        (ADAPTER_FILES[0], Bytes::from(drawn)),
        (ADAPTER_FILES[1], Bytes::from(config)),
    ];
    let form = vintage_store::Form {
        adapted: Some(PolicyVersion(0)),
        ..vintage_store::Form::default()
    };
    let published = weights
        .publish_as(PolicyVersion(version), files, form)
        .await;
    assert!(published.unwrap().0.adapter.is_some());
}

/// Returns adapters whose second factor is no longer 0.
fn changed(file: &[u8], version: u64) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let mut owned = Vec::new();
    for (name, view) in tensors.tensors() {
        let values = view.data().chunks_exact(4).enumerate().map(|(at, old)| {
            let value = ((at as u64 * 7 + version * 3) % 11) as f32 / 22.0 - 0.25;
            if name.contains("lora_B") {
                value.to_le_bytes()
            } else {
                old.try_into().unwrap()
            }
        });
        let bytes: Vec<u8> = values.flatten().collect();
        owned.push((name.clone(), view.shape().to_vec(), bytes));
    }
    let views = owned.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    safetensors::serialize(views, None).unwrap()
}

async fn files(weights: &Weights) -> Vec<(&'static str, Bytes)> {
    let mut files = Vec::new();
    for name in ModelFolder::NEEDED {
        let bytes = weights.fetch_file(PolicyVersion(0), name).await.unwrap();
        files.push((name, bytes.unwrap()));
    }
    files
}

/// Settings for servers at these addresses, with times for tests.
pub(crate) fn rollout(endpoints: Vec<String>) -> RolloutConfig {
    let mut config = RolloutConfig {
        max_tokens: PLAIN.max_tokens,
        engine: EngineKind::Vllm,
        endpoints,
        ..RolloutConfig::default()
    };
    config.server.model_tolerance = 1e-3;
    config.server.patience_seconds = 30.0;
    config
}

/// Plain prompt without an answer.
fn plain(text: &str) -> Prompt {
    Prompt {
        id: text.to_owned(),
        text: text.to_owned(),
        form: Form::Plain,
        chat: None,
        extras: None,
        answer: None,
        metadata: BTreeMap::new(),
        file: 0,
        line: 1,
    }
}

pub(crate) fn request(prompt: &str, slot: u64, samples: u16) -> SampleRequest {
    SampleRequest {
        prompt: Arc::new(plain(prompt)),
        turn: None,
        group: GroupId([slot as u8; 16]),
        samples,
        seed: group_seed(3, slot),
        sampling: PLAIN,
    }
}

/// Checks a completion against the weights that its spans name: every log-prob is the one that the
/// in-process engine computes for that token with that version.
pub(crate) async fn check(weights: &Weights, sample: &Sample) {
    let count = sample.completion_tokens.len();
    assert!(count > 0 && count <= PLAIN.max_tokens);
    assert_eq!(sample.logprobs.len(), count);
    assert_eq!(sample.spans[0].start, 0);
    let ends = sample.spans[1..].iter().map(|span| span.start as usize);
    let ends = ends.chain([count]);
    let tokens = sample.prompt_tokens.iter().chain(&sample.completion_tokens);
    let tokens: Vec<u32> = tokens.map(|&id| id as u32).collect();
    for (span, end) in sample.spans.iter().zip(ends) {
        let engine = LocalEngine::open(weights.clone(), name(), span.version);
        let engine = Arc::new(engine.await.unwrap());
        let scored = engine.score(tokens.clone(), 1.0).await.unwrap();
        let scored = &scored[sample.prompt_tokens.len() - 1..];
        let of_span = span.start as usize..end;
        let pairs = sample.logprobs[of_span.clone()]
            .iter()
            .zip(&scored[of_span]);
        for (given, right) in pairs {
            assert!(
                (given - right).abs() < 1e-4,
                "{given} for {right} in {span:?}"
            );
        }
    }
}

use std::path::Path;

use vintage_control::Precision;

use super::*;
use crate::{Store, sha256, weights::MODEL_FILE};

const V0: PolicyVersion = PolicyVersion(0);
const V1: PolicyVersion = PolicyVersion(1);
const V2: PolicyVersion = PolicyVersion(2);
const CONFIG: Bytes = Bytes::from_static(br#"{"r": 1, "lora_alpha": 2.0}"#);

/// Writes a safetensors file of f32 tensors.
fn file(tensors: &[(&str, [usize; 2], &[f32])], about: &str) -> Bytes {
    let mut at = 0;
    let entries: Vec<_> = tensors
        .iter()
        .map(|(name, [rows, columns], values)| {
            let (from, until) = (at, at + 4 * values.len());
            at = until;
            format!(
                r#""{name}":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[{from},{until}]}}"#
            )
        })
        .collect();
    let mut header = format!("{{{about}{}}}", entries.join(","));
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let values = tensors.iter().flat_map(|(.., values)| *values);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(values.flat_map(|value| value.to_le_bytes()));
    file.into()
}

/// Weights of a version as a learner writes them: [1, 2] + 2 · version · [1, 0.5].
fn model(version: u64) -> Bytes {
    let by = version as f32;
    let values = [1.0 + 2.0 * by, 2.0 + by];
    let about = r#""__metadata__":{"format":"pt"},"#;
    file(&[("q.weight", [1, 2], &values)], about)
}

fn adapter(version: u64) -> Bytes {
    let names = ["A", "B"].map(|factor| format!("base_model.model.q.lora_{factor}.weight"));
    let a = (&names[0][..], [1, 2], &[1.0, 0.5][..]);
    let b = [version as f32];
    file(&[a, (&names[1], [1, 1], &b)], "")
}

fn weights_in(folder: &Path) -> Weights {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    Weights::new(store, "lead".parse().unwrap())
}

async fn publish(weights: &Weights, version: PolicyVersion, adapter: Bytes) -> WeightsManifest {
    let form = Form {
        adapted: Some(V0),
        ..Form::default()
    };
    let files = vec![
        (MODEL_FILE, model(version.0)),
        (ADAPTER_FILES[0], adapter),
        (ADAPTER_FILES[1], CONFIG),
    ];
    weights.publish_as(version, files, form).await.unwrap().0
}

async fn begun(folder: &Path) -> Weights {
    let weights = weights_in(folder);
    let files = vec![(MODEL_FILE, model(0))];
    let _created = weights.publish(V0, files).await.unwrap();
    weights
}

#[tokio::test]
async fn adapters_are_stored_alone_and_read_as_whole_weights() {
    let folder = tempfile::tempdir().unwrap();
    let writer = begun(folder.path()).await;
    let late = weights_in(folder.path());
    for version in [V1, V2] {
        let manifest = publish(&writer, version, adapter(version.0)).await;
        assert_eq!(manifest.weights_sha256, sha256(&model(version.0)));
        assert_eq!(manifest.weights_bytes, model(version.0).len() as u64);
        let stored = manifest.adapter.unwrap();
        assert_eq!((stored.base, stored.base_sha256), (V0, sha256(&model(0))));
        let place = folder.path().join(format!("weights/lead/{version}"));
        assert!(!place.join(MODEL_FILE).exists());
        assert!(ADAPTER_FILES.iter().all(|name| place.join(name).is_file()));
        for reader in [&writer, &late, &weights_in(folder.path())] {
            assert_eq!(reader.fetch(version).await.unwrap(), model(version.0));
            assert!(reader.check(version).await.unwrap().is_empty());
        }
    }
    assert_eq!(late.versions().await.unwrap(), [V0, V1, V2]);
    assert_eq!(late.base_of(V2).await.unwrap(), Some(V0));
    assert_eq!(late.bases([V1, V2]).await.unwrap(), [V0].into());

    // Whoever read one version needs only the adapters of the next.
    std::fs::remove_dir_all(folder.path().join("weights/lead/0")).unwrap();
    assert_eq!(late.fetch(V1).await.unwrap(), model(1));
    late.remove(V1).await.unwrap();
    assert!(!folder.path().join("weights/lead/1").exists());
}

#[tokio::test]
async fn adapters_that_give_other_weights_are_not_stored_alone() {
    let folder = tempfile::tempdir().unwrap();
    let writer = begun(folder.path()).await;
    let manifest = publish(&writer, V1, adapter(5)).await;
    assert_eq!((manifest.adapter, manifest.files.len()), (None, 0));
    assert_eq!(writer.fetch(V1).await.unwrap(), model(1));
    // What does not fit once is not tried again.
    assert_eq!(publish(&writer, V2, adapter(2)).await.adapter, None);
}

#[tokio::test]
async fn adapters_that_an_unfinished_publication_left_are_taken_if_they_are_the_same() {
    for (left, is_taken) in [(adapter(1), true), (adapter(7), false)] {
        let folder = tempfile::tempdir().unwrap();
        let writer = begun(folder.path()).await;
        let path = format!("weights/lead/1/{}", ADAPTER_FILES[0]);
        let _created = writer.store().create(&path, left).await.unwrap();
        let manifest = publish(&writer, V1, adapter(1)).await;
        assert_eq!(manifest.adapter.is_some(), is_taken);
        let late = weights_in(folder.path());
        assert_eq!(late.fetch(V1).await.unwrap(), model(1));
        assert!(late.check(V1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn damage_is_named_once_with_its_file() {
    let damage = async |at: &str, bytes: Bytes| {
        let folder = tempfile::tempdir().unwrap();
        let writer = begun(folder.path()).await;
        publish(&writer, V1, adapter(1)).await;
        std::fs::write(folder.path().join("weights/lead").join(at), bytes).unwrap();
        let reader = weights_in(folder.path());
        let error = reader.fetch(V1).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{at} is corrupt")), "{error}");
        reader.check(V1).await.unwrap().len()
    };
    assert_eq!(damage("1/adapter_model.safetensors", adapter(2)).await, 1);
    assert_eq!(
        damage("1/adapter_config.json", Bytes::from_static(b"{}")).await,
        1
    );
    assert_eq!(damage("0/model.safetensors", model(3)).await, 1);
    // Rounding that the writer did not do.
    let folder = tempfile::tempdir().unwrap();
    let writer = begun(folder.path()).await;
    let mut manifest = publish(&writer, V1, adapter(1)).await;
    manifest.precision = Precision::Bf16;
    let path = folder.path().join("weights/lead/1/manifest.json");
    std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let error = weights_in(folder.path()).fetch(V1).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

//! Chains of deltas: what is stored, what is read, and what is damaged.

use std::path::{Path, PathBuf};

use vintage_control::Precision;

use super::*;
use crate::{Store, weights::MODEL_FILE};

const VALUES: usize = 3000;

fn version(number: u64) -> PolicyVersion {
    PolicyVersion(number)
}

/// Weights of a version: a bf16 tensor of which one value in fifty changes from one to the next.
fn model(number: u64) -> Bytes {
    let header = format!(
        r#"{{"w":{{"dtype":"BF16","shape":[{VALUES}],"data_offsets":[0,{}]}}}}"#,
        2 * VALUES
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    for at in 0..VALUES as u64 {
        // Values without a pattern, so that no whole file is small.
        let begun = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16;
        let steps = (1..=number)
            .filter(|step| (at * 7 + step) % 50 == 0)
            .count() as u16;
        file.extend(begun.wrapping_add(steps).to_le_bytes());
    }
    file.into()
}

fn weights_in(folder: &Path, policy: &str) -> Weights {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    Weights::new(store, policy.parse().unwrap())
}

fn file(folder: &Path, number: u64, name: &str) -> PathBuf {
    folder.join(format!("weights/lead/{number}/{name}"))
}

async fn publish(weights: &Weights, number: u64, full_every: u64) -> WeightsManifest {
    let form = Form {
        precision: Precision::Bf16,
        base: number.checked_sub(1).map(PolicyVersion),
        full_every,
        adapted: None,
    };
    let files = vec![(MODEL_FILE, model(number))];
    let published = weights.publish_as(version(number), files, form).await;
    published.unwrap().0
}

/// Publishes versions 0 to 6, of which 0 and 4 are whole.
async fn chain(folder: &Path) -> Weights {
    let weights = weights_in(folder, "lead");
    for number in 0..7 {
        publish(&weights, number, 4).await;
    }
    weights
}

#[tokio::test]
async fn every_version_is_read_whole_whoever_reads_it_and_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let writer = chain(folder.path()).await;
    for number in 0..7 {
        let manifest = writer.manifest(version(number)).await.unwrap().unwrap();
        assert_eq!(manifest.weights_sha256, crate::sha256(&model(number)));
        assert_eq!(manifest.weights_bytes, model(number).len() as u64);
        let steps = manifest.delta.as_ref().map_or(0, |delta| delta.steps);
        assert_eq!(steps, number % 4, "version {number}");
        let whole = file(folder.path(), number, MODEL_FILE).is_file();
        assert_eq!(whole, manifest.delta.is_none());
        if let Some(delta) = manifest.delta {
            assert_eq!(delta.base, version(number - 1));
            assert_eq!(delta.base_sha256, crate::sha256(&model(number - 1)));
            assert!(delta.bytes < manifest.weights_bytes / 10, "{delta:?}");
        }
        // A reader that has nothing yet, as a producer that joins late.
        let late = weights_in(folder.path(), "lead");
        assert_eq!(late.fetch(version(number)).await.unwrap(), model(number));
    }
    let reader = weights_in(folder.path(), "lead");
    for number in [5, 6, 2, 3, 0, 6, 4, 1] {
        assert_eq!(reader.fetch(version(number)).await.unwrap(), model(number));
        assert_eq!(writer.fetch(version(number)).await.unwrap(), model(number));
    }
    for number in 0..7 {
        assert!(reader.check(version(number)).await.unwrap().is_empty());
    }
    assert_eq!(writer.versions().await.unwrap().len(), 7);
}

#[tokio::test]
async fn a_reader_that_has_the_base_reads_the_delta_alone() {
    let folder = tempfile::tempdir().unwrap();
    let writer = weights_in(folder.path(), "lead");
    let reader = weights_in(folder.path(), "lead");
    for number in 0..4 {
        publish(&writer, number, 4).await;
        reader.fetch(version(number)).await.unwrap();
    }
    // Without everything before version 2, both go on: they hold 3, and the writer made it of 2.
    for number in 0..3 {
        std::fs::remove_dir_all(folder.path().join(format!("weights/lead/{number}"))).unwrap();
    }
    publish(&writer, 4, 9).await;
    assert!(file(folder.path(), 4, DELTA_FILE).is_file());
    assert_eq!(reader.fetch(version(4)).await.unwrap(), model(4));
    let late = weights_in(folder.path(), "lead");
    let error = late.fetch(version(4)).await.unwrap_err();
    assert!(
        matches!(error, Error::NoBase { base, .. } if base == version(2)),
        "{error}"
    );
}

#[tokio::test]
async fn what_no_delta_is_made_of_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights_in(folder.path(), "lead");
    let form = |base| Form {
        base,
        full_every: 8,
        ..Form::default()
    };
    let put = async |number, bytes, base| {
        let files = vec![(MODEL_FILE, bytes)];
        let published = weights.publish_as(version(number), files, form(base)).await;
        published.unwrap().0.delta
    };
    assert_eq!(put(0, model(0), None).await, None);
    // No version before it, none that is there, itself, and weights of another length.
    assert_eq!(put(1, model(1), Some(version(7))).await, None);
    assert_eq!(put(2, model(2), Some(version(2))).await, None);
    assert_eq!(
        put(3, Bytes::from_static(b"short"), Some(version(2))).await,
        None
    );
    // Other values altogether: their delta would be as long.
    let other: Bytes = {
        let mut bytes = model(2).to_vec();
        let at = bytes.len() - 2 * VALUES;
        let mut state = 1_u64;
        for byte in &mut bytes[at..] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        bytes.into()
    };
    assert_eq!(put(4, other, Some(version(2))).await, None);
    assert!(put(5, model(5), Some(version(2))).await.is_some());
    // Damaged weights are no base.
    std::fs::write(file(folder.path(), 4, MODEL_FILE), model(4)).unwrap();
    let after_restart = weights_in(folder.path(), "lead");
    let files = vec![(MODEL_FILE, model(6))];
    let published = after_restart
        .publish_as(version(6), files, form(Some(version(4))))
        .await;
    assert_eq!(published.unwrap().0.delta, None);
    assert_eq!(after_restart.fetch(version(6)).await.unwrap(), model(6));
}

#[tokio::test]
async fn a_publication_that_was_cut_off_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let writer = chain(folder.path()).await;
    // The same delta was left without a manifest, and then another one.
    std::fs::remove_file(file(folder.path(), 6, super::super::MANIFEST_FILE)).unwrap();
    assert!(writer.fetch(version(6)).await.is_err(), "not published");
    let again = weights_in(folder.path(), "lead");
    assert!(publish(&again, 6, 4).await.delta.is_some());
    assert_eq!(again.fetch(version(6)).await.unwrap(), model(6));

    std::fs::remove_file(file(folder.path(), 6, super::super::MANIFEST_FILE)).unwrap();
    std::fs::copy(
        file(folder.path(), 5, DELTA_FILE),
        file(folder.path(), 6, DELTA_FILE),
    )
    .unwrap();
    let again = weights_in(folder.path(), "lead");
    assert_eq!(publish(&again, 6, 4).await.delta, None);
    assert_eq!(again.fetch(version(6)).await.unwrap(), model(6));
    assert!(again.check(version(6)).await.unwrap().is_empty());
    again.remove(version(6)).await.unwrap();
    assert!(!folder.path().join("weights/lead/6").exists());
}

#[tokio::test]
async fn damage_anywhere_in_a_chain_is_an_error_that_names_its_file() {
    type Damage = fn(&Path);
    let delta = |folder: &Path, number| file(folder, number, DELTA_FILE);
    let damages: [(&str, Damage); 6] = [
        ("5/model.delta is corrupt", |folder| {
            let path = file(folder, 5, DELTA_FILE);
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("6/model.delta is corrupt", |folder| {
            let path = file(folder, 6, DELTA_FILE);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("5/model.delta is missing", |folder| {
            std::fs::remove_file(file(folder, 5, DELTA_FILE)).unwrap();
        }),
        ("4/model.safetensors is corrupt", |folder| {
            std::fs::write(file(folder, 4, MODEL_FILE), model(3)).unwrap();
        }),
        (
            "5/model.delta is a delta on version 4, which is not there",
            |folder| {
                std::fs::remove_dir_all(folder.join("weights/lead/4")).unwrap();
            },
        ),
        (
            "5/model.delta is a delta on version 4, of which other weights are there",
            |folder| {
                // A folder of another policy, put in the place of this one's.
                let other = folder.join("weights/lead/0");
                let text = std::fs::read_to_string(other.join("manifest.json")).unwrap();
                let text = text.replace("\"version\":0", "\"version\":4");
                std::fs::write(file(folder, 4, "manifest.json"), text).unwrap();
            },
        ),
    ];
    for (told, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        chain(folder.path()).await;
        assert!(delta(folder.path(), 6).is_file());
        damage(folder.path());
        let reader = weights_in(folder.path(), "lead");
        let error = reader.fetch(version(6)).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        let faults = reader.check(version(6)).await.unwrap();
        assert!(faults[0].to_string().contains(told), "{faults:?}");
        // The versions before the damage are as they were.
        assert_eq!(reader.fetch(version(3)).await.unwrap(), model(3));
    }
}

#[tokio::test]
async fn a_delta_with_a_manifest_of_another_is_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    chain(folder.path()).await;
    // Digests of manifest and file agree, and the file is the delta of another version.
    let text = std::fs::read_to_string(file(folder.path(), 6, "manifest.json")).unwrap();
    let mut manifest: WeightsManifest = serde_json::from_str(&text).unwrap();
    let other = std::fs::read(file(folder.path(), 2, DELTA_FILE)).unwrap();
    let delta = manifest.delta.as_mut().unwrap();
    (delta.sha256, delta.bytes) = (crate::sha256(&other), other.len() as u64);
    std::fs::write(file(folder.path(), 6, DELTA_FILE), other).unwrap();
    let text = serde_json::to_string(&manifest).unwrap();
    std::fs::write(file(folder.path(), 6, "manifest.json"), text).unwrap();
    let reader = weights_in(folder.path(), "lead");
    let error = reader.fetch(version(6)).await.unwrap_err();
    assert!(matches!(error, Error::Delta { .. }), "{error}");
    assert!(
        error.to_string().contains("another version or policy"),
        "{error}"
    );
}

#[tokio::test]
async fn bases_of_what_is_kept_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let writer = chain(folder.path()).await;
    for weights in [writer, weights_in(folder.path(), "lead")] {
        let bases = async |kept: &[u64]| -> Vec<u64> {
            let kept = kept.iter().copied().map(PolicyVersion);
            let bases = weights.bases(kept).await.unwrap();
            bases.into_iter().map(|version| version.0).collect()
        };
        assert_eq!(bases(&[6]).await, [4, 5]);
        assert!(bases(&[0, 4, 9]).await.is_empty());
        assert_eq!(bases(&[3, 5]).await, [0, 1, 2, 4]);
        assert_eq!(bases(&[2, 3]).await, [0, 1, 2]);
        assert_eq!(weights.base_of(version(6)).await.unwrap(), Some(version(5)));
        // Listed, what has no delta beside it is known to be whole.
        weights.versions().await.unwrap();
        assert_eq!(bases(&[6]).await, [4, 5]);
    }
}

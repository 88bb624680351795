use super::*;

const V0: PolicyVersion = PolicyVersion(0);
const V1: PolicyVersion = PolicyVersion(1);

fn scratch() -> (tempfile::TempDir, Weights) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    (folder, Weights::new(store, "lead".parse().unwrap()))
}

fn model(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 2 << 20])
}

#[tokio::test]
async fn published_weights_come_back_verified() {
    let (folder, weights) = scratch();
    let files = vec![
        (MODEL_FILE, model(1)),
        ("config.json", Bytes::from_static(b"{}")),
    ];
    let (manifest, created) = weights.publish(V0, files).await.unwrap();
    assert_eq!(created, Created::New);
    assert_eq!(manifest.weights_sha256, sha256(&model(1)));
    assert_eq!(manifest.weights_bytes, 2 << 20);
    assert_eq!(weights.manifest(V0).await.unwrap(), Some(manifest));
    assert_eq!(weights.fetch(V0).await.unwrap(), model(1));
    assert_eq!(
        weights
            .fetch_file(V0, "config.json")
            .await
            .unwrap()
            .unwrap(),
        "{}"
    );
    assert_eq!(
        weights.fetch_file(V0, "tokenizer.json").await.unwrap(),
        None
    );
    assert!(
        folder
            .path()
            .join("weights/lead/0/model.safetensors")
            .is_file()
    );
    let missing = weights.fetch(V1).await.unwrap_err();
    assert!(
        matches!(missing, Error::NoSuchVersion { version: V1, .. }),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_flipped_byte_is_an_error_naming_file_and_both_hashes() {
    let (folder, weights) = scratch();
    let _ = weights
        .publish(V1, vec![(MODEL_FILE, model(1))])
        .await
        .unwrap();
    let path = folder.path().join("weights/lead/1/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[12345] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let said = weights.fetch(V1).await.unwrap_err().to_string();
    for part in [
        "1/model.safetensors",
        &sha256(&model(1)).to_string(),
        &sha256(&bytes).to_string(),
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn published_bytes_win() {
    let (_folder, weights) = scratch();
    let (first, _) = weights
        .publish(V1, vec![(MODEL_FILE, model(1))])
        .await
        .unwrap();
    let (again, created) = weights
        .publish(V1, vec![(MODEL_FILE, model(2))])
        .await
        .unwrap();
    assert_eq!((again, created), (first, Created::Exists));
    assert_eq!(weights.fetch(V1).await.unwrap(), model(1));
}

#[tokio::test]
async fn bytes_of_an_interrupted_publication_win_and_equal_ones_are_new() {
    let (_folder, weights) = scratch();
    for (version, left) in [(1, 1), (2, 9)] {
        let path = format!("weights/lead/{version}/{MODEL_FILE}");
        let _ = weights.store.create(&path, model(left)).await.unwrap();
    }
    assert_eq!(
        weights.versions().await.unwrap(),
        [],
        "without a manifest nothing is published"
    );
    let (_, created) = weights
        .publish(V1, vec![(MODEL_FILE, model(1))])
        .await
        .unwrap();
    assert_eq!(created, Created::New);
    let version = PolicyVersion(2);
    let (manifest, created) = weights
        .publish(version, vec![(MODEL_FILE, model(2))])
        .await
        .unwrap();
    assert_eq!(
        (manifest.weights_sha256, created),
        (sha256(&model(9)), Created::Exists)
    );
    assert_eq!(weights.fetch(version).await.unwrap(), model(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rival_publishers_agree_on_one_set_of_bytes() {
    let (_folder, weights) = scratch();
    for version in (0..10).map(PolicyVersion) {
        let rivals = (0..4u8).map(|who| {
            let weights = weights.clone();
            tokio::spawn(async move {
                weights
                    .publish(version, vec![(MODEL_FILE, model(who))])
                    .await
            })
        });
        let done = futures::future::join_all(rivals).await;
        let done: Vec<_> = done.into_iter().map(|one| one.unwrap().unwrap()).collect();
        let bytes = weights.fetch(version).await.unwrap();
        assert!(
            done.iter()
                .all(|(manifest, _)| manifest.weights_sha256 == sha256(&bytes))
        );
        assert!(
            done.iter()
                .filter(|(_, created)| *created == Created::New)
                .count()
                <= 1
        );
    }
}

#[tokio::test]
async fn another_leftover_file_is_refused() {
    let (_folder, weights) = scratch();
    let _ = weights
        .store
        .create("weights/lead/0/config.json", "old".into())
        .await
        .unwrap();
    let files = vec![
        (MODEL_FILE, model(1)),
        ("config.json", Bytes::from_static(b"new")),
    ];
    let error = weights.publish(V0, files).await.unwrap_err();
    assert!(matches!(error, Error::Leftover { .. }), "{error:?}");
    assert!(
        weights.publish(V1, vec![]).await.is_err(),
        "a version without a model"
    );
}

#[tokio::test]
async fn a_version_is_removed_whole_but_never_version_0() {
    let (folder, weights) = scratch();
    for version in [V0, V1] {
        let _ = weights
            .publish(version, vec![(MODEL_FILE, model(1))])
            .await
            .unwrap();
        weights.remove(version).await.unwrap();
    }
    assert_eq!(weights.versions().await.unwrap(), [V0]);
    assert!(!folder.path().join("weights/lead/1").exists());
    assert!(matches!(
        weights.fetch(V1).await,
        Err(Error::NoSuchVersion { .. })
    ));
}

use std::{process::Command, time::Duration};

use serde::Deserialize;

use super::*;

fn scratch() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    (folder, store)
}

#[tokio::test]
async fn paths_are_relative_to_the_store_they_were_asked_of() {
    let (folder, store) = scratch();
    let below = store.at("archive/").at("v1");
    let _ = below.create("t/2", Bytes::from_static(b"2")).await.unwrap();
    let _ = below.create("t/1", Bytes::from_static(b"1")).await.unwrap();
    let _ = store
        .create("other", Bytes::from_static(b"o"))
        .await
        .unwrap();
    assert_eq!(below.list("").await.unwrap(), ["t/1", "t/2"]);
    assert_eq!(below.list("t").await.unwrap(), ["t/1", "t/2"]);
    assert_eq!(below.list("missing").await.unwrap(), Vec::<String>::new());
    assert_eq!(
        store.list("").await.unwrap(),
        ["archive/v1/t/1", "archive/v1/t/2", "other"]
    );
    let file = folder.path().canonicalize().unwrap().join("archive/v1/t/2");
    assert_eq!(below.local_path("t/2").unwrap(), file);
    assert!(file.is_file());
}

#[tokio::test]
async fn a_folder_may_be_relative_a_url_or_have_odd_characters() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["spaces and %41", "ümlaut", "a/../b"] {
        let path = folder.path().join(name);
        for location in [
            path.display().to_string(),
            format!("file://{}", path.display()),
        ] {
            let store = Store::open(&location).unwrap();
            let _ = store.create("x", Bytes::from_static(b"x")).await.unwrap();
            assert_eq!(store.list("").await.unwrap(), ["x"], "{location}");
            assert!(store.local_path("x").unwrap().is_file(), "{location}");
        }
    }
    let relative = Store::open("some/../folder").unwrap();
    assert_eq!(
        relative.local_path("x").unwrap(),
        std::env::current_dir().unwrap().join("folder/x")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_object_is_never_seen() {
    let (_folder, store) = scratch();
    let body = Bytes::from(vec![7u8; 8 << 20]);
    let writer = tokio::spawn({
        let (store, body) = (store.clone(), body.clone());
        async move {
            for object in 0..4 {
                let created = store
                    .create(&format!("p/{object}"), body.clone())
                    .await
                    .unwrap();
                assert_eq!(created, Created::New);
            }
        }
    });
    let mut polls = 0u64;
    while !writer.is_finished() {
        for path in store.list("p").await.unwrap() {
            assert!(!path.contains('#'), "a staging file was listed: {path}");
            assert_eq!(store.head(&path).await.unwrap(), Some(body.len() as u64));
        }
        polls += 1;
    }
    writer.await.unwrap();
    assert!(polls > 0);
}

#[tokio::test]
async fn staging_files_of_dead_processes_are_invisible_and_swept() {
    let (folder, store) = scratch();
    let _ = store
        .create("p/1.parquet", Bytes::from_static(b"whole"))
        .await
        .unwrap();
    std::fs::write(folder.path().join("p/2.parquet#1"), b"of an earlier build").unwrap();
    std::fs::write(folder.path().join("p/.2.parquet#1"), b"ha").unwrap();
    std::fs::write(folder.path().join("p/2.parquet#x"), b"not a staging file").unwrap();
    assert_eq!(
        store.list("p").await.unwrap(),
        ["p/1.parquet", "p/2.parquet#x"]
    );
    assert_eq!(
        store.sweep("").await.unwrap(),
        0,
        "young ones may have a living owner"
    );
    assert_eq!(
        store
            .create("p/2.parquet", Bytes::from_static(b"x"))
            .await
            .unwrap(),
        Created::New
    );
    assert_eq!(store.sweep_older_than("", Duration::ZERO).await.unwrap(), 2);
    for left in ["p/2.parquet#1", "p/.2.parquet#1"] {
        assert!(!folder.path().join(left).exists(), "{left}");
    }
    assert_eq!(store.list("p").await.unwrap().len(), 3);
}

#[tokio::test]
async fn records_are_one_line_of_json_and_a_foreign_one_is_named() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Record {
        loss: f64,
    }
    let (folder, store) = scratch();
    let record = Record { loss: 0.1 + 0.2 };
    let _ = store.create_json("r.json", &record).await.unwrap();
    assert_eq!(
        store.get("r.json").await.unwrap().unwrap(),
        "{\"loss\":0.30000000000000004}\n"
    );
    assert_eq!(
        store.get_json::<Record>("r.json").await.unwrap(),
        Some(record)
    );
    assert_eq!(store.get_json::<Record>("none.json").await.unwrap(), None);
    std::fs::write(folder.path().join("r.json"), "{\"lost\":1}").unwrap();
    let error = store
        .get_json::<Record>("r.json")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("r.json") && error.contains("lost"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_in_place_of_a_folder_is_told_plainly() {
    let (folder, store) = scratch();
    std::fs::write(folder.path().join("plans"), "").unwrap();
    let path = folder.path().join("plans");
    let opened = Store::open(path.to_str().unwrap()).unwrap_err();
    let written = store
        .create("plans/lead/0.json", Bytes::new())
        .await
        .unwrap_err();
    for error in [opened, written] {
        assert!(matches!(error, Error::NotADirectory { .. }), "{error:?}");
        assert!(error.to_string().contains("plans"), "{error}");
    }
    for no_backend in ["gs://bucket", "s3://", "file://relative"] {
        assert!(matches!(
            Store::open(no_backend),
            Err(Error::Location { .. })
        ));
    }
    assert!(matches!(Store::open(""), Err(Error::Location { .. })));
}

/// A folder that cannot be created gives a clear error. `/sys` refuses new folders even to root,
/// which runs the tests in most containers.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told_plainly() {
    let store = Store::open("/sys/vintage").unwrap();
    let error = store
        .create("plans/0.json", Bytes::new())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error:?}");
    assert!(
        error.is_retryable() && error.to_string().contains("/sys/vintage"),
        "{error}"
    );
}

/// A full disk gives a clear error and leaves nothing behind. It is simulated by a limit on file
/// sizes in a child process that runs this same test.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_is_told_plainly_and_leaves_nothing() {
    const CHILD: &str = "VINTAGE_TEST_FULL_DISK";
    if let Ok(folder) = std::env::var(CHILD) {
        let store = Store::open(&folder).unwrap();
        let error = store
            .create("p/big", Bytes::from(vec![1; 1 << 20]))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
        assert!(
            error.is_retryable() && error.to_string().contains("p/big"),
            "{error}"
        );
        assert_eq!(
            store
                .create("p/small", Bytes::from_static(b"s"))
                .await
                .unwrap(),
            Created::New
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "store::tests::a_full_disk_is_told_plainly_and_leaves_nothing";
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
    let left: Vec<_> = std::fs::read_dir(folder.path().join("p"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

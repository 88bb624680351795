//! Conformance tests that every store must pass, in a folder or in a bucket.

use bytes::Bytes;
use futures::future::join_all;
use vintage_store::{Created, Store};

/// Runs all tests below, each in an empty part of `store` of its own.
pub(super) async fn conforms(store: &Store) {
    an_object_reads_back_and_is_never_overwritten(&store.at("objects")).await;
    paths_are_relative_to_the_store_they_were_asked_of(&store.at("paths")).await;
    of_concurrent_creators_exactly_one_wins(&store.at("rivals")).await;
    a_long_list_is_whole(&store.at("many")).await;
    let probed = store.at("probed");
    probed.probe_conditional_put().await.unwrap();
    assert_eq!(probed.list("").await.unwrap(), Vec::<String>::new());
}

async fn create(store: &Store, path: &str, bytes: &'static [u8]) -> Created {
    let created = store.create(path, Bytes::from_static(bytes)).await;
    created.unwrap()
}

async fn an_object_reads_back_and_is_never_overwritten(store: &Store) {
    assert_eq!(store.get("a/b").await.unwrap(), None);
    assert_eq!(store.head("a/b").await.unwrap(), None);
    assert_eq!(create(store, "a/b", b"first").await, Created::New);
    assert_eq!(create(store, "a/b", b"other").await, Created::Exists);
    // Nor by the same bytes once more: the second writer must know that it was not the first.
    assert_eq!(create(store, "a/b", b"first").await, Created::Exists);
    assert_eq!(store.get("a/b").await.unwrap().unwrap(), "first");
    assert_eq!(store.get_range("a/b", 1..3).await.unwrap(), "ir");
    assert_eq!(store.get_range("a/b", 0..5).await.unwrap(), "first");
    assert!(store.get_range("a/b", 5..9).await.is_err());
    assert!(store.get_range("a/none", 0..1).await.is_err());
    assert_eq!(store.head("a/b").await.unwrap(), Some(5));
    let tail = async |path, count| store.get_tail(path, count).await.unwrap();
    let some = |bytes: &'static str, length| Some((Bytes::from_static(bytes.as_bytes()), length));
    assert_eq!(tail("a/b", 2).await, some("st", 5));
    assert_eq!(tail("a/b", 5).await, some("first", 5));
    assert_eq!(tail("a/b", 9).await, some("first", 5));
    assert_eq!(tail("a/none", 9).await, None);
    assert_eq!(create(store, "empty", b"").await, Created::New);
    assert_eq!(store.get("empty").await.unwrap().unwrap(), "");
    assert_eq!(tail("empty", 9).await, some("", 0));
    store.delete("a/b").await.unwrap();
    store.delete("a/b").await.unwrap();
    assert_eq!(store.head("a/b").await.unwrap(), None);
    assert_eq!(create(store, "a/b", b"again").await, Created::New);
}

async fn paths_are_relative_to_the_store_they_were_asked_of(store: &Store) {
    let below = store.at("archive/").at("v1");
    for path in ["t/2", "t/1", "tt/1", "t/x/1"] {
        assert_eq!(create(&below, path, b"x").await, Created::New);
    }
    assert_eq!(create(store, "other", b"o").await, Created::New);
    let of_t = ["t/1", "t/2", "t/x/1"];
    assert_eq!(below.list("t").await.unwrap(), of_t);
    assert_eq!(
        below.list("").await.unwrap(),
        [&of_t[..], &["tt/1"]].concat()
    );
    assert_eq!(below.list("missing").await.unwrap(), Vec::<String>::new());
    let all = store.list("").await.unwrap();
    assert_eq!((all.len(), all.last().unwrap().as_str()), (5, "other"));
}

async fn of_concurrent_creators_exactly_one_wins(store: &Store) {
    for object in 0..20 {
        let path = &format!("p/{object}");
        let creators = (0..8_u8).map(|who| async move {
            let created = store.create(path, Bytes::from(vec![who; 4096])).await;
            (created.unwrap() == Created::New).then_some(who)
        });
        let winners: Vec<u8> = join_all(creators).await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{path}");
        let found = store.get(path).await.unwrap().unwrap();
        assert_eq!(found, vec![winners[0]; 4096], "{path}");
    }
    assert_eq!(store.list("").await.unwrap().len(), 20);
}

/// Tests a list longer than the thousand objects that S3 lists at a time.
async fn a_long_list_is_whole(store: &Store) {
    let names: Vec<_> = (0..1003).map(|object| format!("{object:04}")).collect();
    for names in names.chunks(17) {
        join_all(names.iter().map(|name| create(store, name, b""))).await;
    }
    assert_eq!(store.list("").await.unwrap(), names);
}

//! Store that is away for a number of requests, and a patient handle to it.

mod lanes;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
};
use tokio_util::sync::CancellationToken;

use super::*;

/// Server that does not answer its first requests.
#[derive(Debug)]
struct Server {
    objects: InMemory,
    trouble: Mutex<Trouble>,
    /// Reads that are not answered yet, and the most at any moment.
    reading: AtomicU64,
    most: AtomicU64,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Number of requests still to fail.
    failing: usize,
    /// True if the first of them is done all the same, and its answer lost.
    done: bool,
    /// True if they are refused for good.
    refused: bool,
    asked: usize,
}

impl Server {
    /// Returns whether a request is carried out, and how its answer fails.
    fn ask(&self) -> (bool, Option<object_store::Error>) {
        let mut trouble = self.trouble.lock().unwrap();
        trouble.asked += 1;
        if trouble.failing == 0 {
            return (true, None);
        }
        trouble.failing -= 1;
        let (path, source) = ("p".to_owned(), "403".into());
        let error = if trouble.refused {
            object_store::Error::PermissionDenied { path, source }
        } else {
            object_store::Error::Generic {
                store: "S3",
                source: "connection refused".into(),
            }
        };
        (std::mem::take(&mut trouble.done), Some(error))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("server")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Server {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (done, failed) = self.ask();
        if done {
            let put = self.objects.put_opts(path, payload, options).await;
            return failed.map_or(put, Err);
        }
        Err(failed.unwrap())
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let reading = self.reading.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(reading, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.reading.fetch_sub(1, Ordering::Relaxed);
        match self.ask() {
            (_, Some(failed)) => Err(failed),
            _ => self.objects.get_opts(path, options).await,
        }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.ask() {
            (_, Some(failed)) => Box::pin(futures::stream::iter([Err(failed)])),
            _ => self.objects.delete_stream(paths),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.ask() {
            (_, Some(failed)) => Box::pin(futures::stream::iter([Err(failed)])),
            _ => self.objects.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

fn remote() -> (Arc<Server>, Store, CancellationToken) {
    let server = Arc::new(Server {
        objects: InMemory::new(),
        trouble: Mutex::default(),
        reading: AtomicU64::new(0),
        most: AtomicU64::new(0),
    });
    let backend = Backend::Bucket("runs".into());
    let objects = Arc::clone(&server) as Arc<dyn ObjectStore>;
    let store = Store::new(objects, Path::default(), backend, Arc::default());
    let cancel = CancellationToken::new();
    let patient = store.patient(Patience {
        longest: Duration::from_secs(60),
        cancel: cancel.clone(),
    });
    (server, patient, cancel)
}

/// Sets the trouble of the next requests, and returns how many were asked before.
fn troubled(server: &Server, failing: usize, done: bool, refused: bool) -> usize {
    let mut trouble = server.trouble.lock().unwrap();
    let asked = trouble.asked;
    *trouble = Trouble {
        failing,
        done,
        refused,
        asked,
    };
    asked
}

/// Every kind of request waits. A create whose first try was done finds its own bytes, after more
/// tries than one create has, and that is a success; another's object is still another's.
#[tokio::test]
async fn a_patient_store_waits_until_the_server_is_back() {
    let (server, store, _cancel) = remote();
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    troubled(&server, 9, true, false);
    assert_eq!(store.create("a", bytes("1")).await.unwrap(), Created::New);
    troubled(&server, 1, false, false);
    let second = store.create("a", bytes("2")).await.unwrap();
    assert_eq!(second, Created::Exists);
    troubled(&server, 2, false, false);
    assert_eq!(store.get("a").await.unwrap(), Some(bytes("1")));
    troubled(&server, 2, false, false);
    assert_eq!(store.head("a").await.unwrap(), Some(1));
    troubled(&server, 2, false, false);
    assert_eq!(store.list("").await.unwrap(), ["a"]);
    troubled(&server, 2, false, false);
    store.delete("a").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(store.contact().outage(), None);
}

#[tokio::test]
async fn a_wait_is_told_and_ends_with_the_role() {
    let (server, store, cancel) = remote();
    troubled(&server, usize::MAX, false, false);
    let contact = Arc::clone(store.contact());
    let reading = tokio::spawn(async move { store.get("a").await });
    let outage = loop {
        match contact.outage() {
            Some(outage) => break outage,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(outage.reason.contains("s3://runs/"), "{}", outage.reason);
    cancel.cancel();
    let failed = reading.await.unwrap().unwrap_err();
    assert!(failed.passes(), "{failed}");
    assert_eq!(contact.outage(), None);
}

#[tokio::test]
async fn what_is_refused_or_not_there_is_told_at_once() {
    let (server, store, _cancel) = remote();
    let asked = troubled(&server, usize::MAX, false, true);
    let begun = Instant::now();
    for failed in [
        store
            .create("a", Bytes::from_static(b"1"))
            .await
            .unwrap_err(),
        store.get("a").await.unwrap_err(),
        store.delete("a").await.unwrap_err(),
    ] {
        assert!(!failed.passes(), "{failed}");
    }
    assert_eq!(server.trouble.lock().unwrap().asked - asked, 3);
    troubled(&server, 0, false, false);
    let absent = store.get_range("a", 0..1).await.unwrap_err();
    assert!(!absent.passes(), "{absent}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().to_string_lossy()).unwrap();
    let store = store.patient(Patience {
        longest: Duration::from_secs(60),
        cancel: CancellationToken::new(),
    });
    let begun = Instant::now();
    let _new = store.create("a", Bytes::from_static(b"1")).await.unwrap();
    assert!(store.get_range("b", 0..1).await.is_err());
    assert!(store.get_range("a", 5..9).await.is_err());
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(store.create("file/a", Bytes::new()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

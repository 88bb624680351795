//! Tests of a learner that stops: overtaken, refused by the store, or cancelled.

use std::path::Path;

use super::*;
use crate::source::{Incoming, RolloutSource};

/// Checks that a learner that was suspended, overtaken and resumed cannot change anything.
#[test]
fn an_overtaken_learner_stops_and_changes_nothing() {
    let log = log();
    // At every 7th await: the zombie resumes there after its successor has finished.
    for polls in (1..400).step_by(7) {
        let folder = tempfile::tempdir().unwrap();
        run_in(begin(folder.path()));
        let zombie = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let mut learner = Box::pin(live(store, "zombie".to_owned(), (&log).into()));
        let mut left = polls;
        let early = zombie.block_on(poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            learner.as_mut().poll(context).map(Some)
        }));
        if early.is_some() {
            break;
        }
        run_process(folder.path(), usize::MAX, &log).unwrap();
        let before = outcome(folder.path());
        let ended = zombie.block_on(learner);
        // Suspended early enough, it finds only finished plans and runs them again.
        if let Err(error) = ended {
            assert!(
                matches!(error, Error::Fenced { .. }),
                "point {polls}: {error}"
            );
        }
        assert!(outcome(folder.path()) == before, "point {polls}");
        let again = run_process(folder.path(), usize::MAX, &log).unwrap();
        assert!(
            again.finished,
            "point {polls}: a later process cannot recover"
        );
    }
}

/// Checks that records are durable before a plan names them, because a plan whose refused records
/// are gone could not be run again either.
#[test]
fn every_record_that_a_plan_names_is_durable_before_it() {
    #[derive(Clone, Default)]
    struct Ensured(Arc<Mutex<BTreeSet<RecordId>>>);

    #[async_trait]
    impl Durability for Ensured {
        async fn ensure(&mut self, records: &[RecordId]) -> Result<()> {
            self.0.lock().unwrap().extend(records);
            Ok(())
        }
    }

    let log = log();
    let folder = tempfile::tempdir().unwrap();
    let ensured = Ensured::default();
    run_in(async {
        let store = begin(folder.path()).await;
        let opened = open(store, "process".to_owned(), (&log).into()).await;
        let (learner, mut inputs) = opened.unwrap();
        inputs.durability = Box::new(ensured.clone());
        learner.run(inputs, &CancellationToken::new()).await
    })
    .unwrap();
    let (plans, ..) = outcome(folder.path());
    let mut refused = 0;
    for plan in plans {
        let trained = plan.groups.iter().flat_map(|group| &group.records);
        let others = plan.rejections.iter().flat_map(|refused| &refused.records);
        refused += others.clone().count();
        for record in trained.chain(others) {
            assert!(ensured.0.lock().unwrap().contains(record), "{record}");
        }
    }
    assert!(refused > 0);
}

/// Checks that a learner waits for a planned record that does not arrive, but not after the first
/// ^C.
#[test]
fn told_to_stop_it_does_not_wait_for_what_it_lacks() {
    struct Silent;

    #[async_trait]
    impl RolloutSource for Silent {
        async fn next(&mut self) -> Result<Option<Incoming>> {
            std::future::pending().await
        }

        fn is_recorded(&self) -> bool {
            false
        }
    }

    let log = log();
    let folder = tempfile::tempdir().unwrap();
    run_in(begin(folder.path()));
    let planned = |folder: &Path| folder.join("plans/lead/0.json").is_file();
    for polls in (1..).step_by(5) {
        run_process(folder.path(), polls, &log);
        if planned(folder.path()) {
            break;
        }
    }
    let stop = CancellationToken::new();
    let ended = run_in(async {
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let opened = open(store, "second".to_owned(), (&log).into()).await;
        let (learner, mut inputs) = opened.unwrap();
        inputs.source = Box::new(Silent);
        let run = learner.run(inputs, &stop);
        let stopping = async {
            tokio::task::yield_now().await;
            stop.cancel();
        };
        let (ended, ()) =
            tokio::join!(tokio::time::timeout(Duration::from_secs(60), run), stopping);
        ended.expect("it went on waiting").unwrap()
    });
    assert!(!ended.finished);
}

//! Tests of an update that is recorded while the next one is computed.

use std::{path::PathBuf, sync::OnceLock};

use tokio::sync::mpsc;
use vintage_control::{Fingerprint, Plan};
use vintage_settings::Device;
use vintage_store::{Records, Weights};

use super::*;
use crate::{
    adamw::AdamW,
    devices::Devices,
    engine::{UpdateEngine, UpdateStats},
    host::HostEngine,
    learner::{
        Learner,
        fixture::{Logs, STEPS, settings_of},
    },
    outlet::{LearnerEvent, Outlet},
    pack::PackedBatch,
    source::{Durability, Incoming, Inputs, RolloutSource},
};

type Events = Mutex<mpsc::UnboundedReceiver<LearnerEvent>>;

/// Devices whose updates end only when the one before is recorded.
#[derive(Debug)]
struct Waiting {
    folder: PathBuf,
    events: Arc<Events>,
    /// Numbers of the updates that began before the one before was recorded.
    early: Mutex<Vec<u64>>,
}

#[derive(Debug)]
struct WaitingEngine {
    inner: HostEngine,
    of: &'static Waiting,
}

/// Log that is never waited for.
struct AtHand(std::vec::IntoIter<Incoming>);

#[async_trait]
impl RolloutSource for AtHand {
    async fn next(&mut self) -> Result<Option<Incoming>> {
        Ok(self.0.next())
    }

    fn at_hand(&mut self) -> Result<Option<Incoming>> {
        Ok(self.0.next())
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

/// Log whose records are durable, with those that were asked for.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<(BTreeSet<RecordId>, Vec<bool>)>>);

#[async_trait]
impl Durability for Asked {
    fn ask(&mut self, records: &[RecordId]) {
        self.0.lock().unwrap().0.extend(records);
    }

    async fn ensure(&mut self, records: &[RecordId]) -> Result<()> {
        let (asked, was_asked) = &mut *self.0.lock().unwrap();
        was_asked.push(records.iter().all(|record| asked.contains(record)));
        Ok(())
    }
}

static WAITING: OnceLock<Waiting> = OnceLock::new();

impl Devices for &'static Waiting {
    fn open(&self, _: Device, optimizer: AdamW) -> Result<Box<dyn UpdateEngine>> {
        Ok(Box::new(WaitingEngine {
            inner: HostEngine::new(optimizer),
            of: self,
        }))
    }
}

impl UpdateEngine for WaitingEngine {
    fn fingerprint(&self) -> &Fingerprint {
        self.inner.fingerprint()
    }

    fn shares_prompts(&self) -> bool {
        true
    }

    fn update(
        &mut self,
        decoder: &mut vintage_model::Decoder,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<()> {
        let there = |kind: &str, number: u64| {
            let path = self.of.folder.join(format!("{kind}/lead/{number}"));
            path.with_extension("json").exists()
        };
        let number = plan.version.0;
        if let Some(before) = number.checked_sub(1)
            && !there("results", before)
        {
            self.of.early.lock().unwrap().push(number);
            let mut events = self.of.events.lock().unwrap();
            loop {
                match events.blocking_recv() {
                    Some(LearnerEvent::Updated(result)) if result.version.0 == before => break,
                    Some(_) => {}
                    None => panic!("update {before} is never recorded"),
                }
            }
            assert!(there("plans", number) && there("results", before));
            let weights = format!("weights/lead/{number}/model.safetensors");
            assert!(self.of.folder.join(weights).exists());
        }
        self.inner.update(decoder, plan, batches, outcome)
    }

    fn optimizer(&self) -> Result<std::borrow::Cow<'_, AdamW>> {
        self.inner.optimizer()
    }

    fn forget_parameters(&mut self) -> Result<()> {
        self.inner.forget_parameters()
    }
}

/// Checks that an update whose groups are at hand begins before the one before is recorded, which is
/// recorded meanwhile, that only checkpoints are waited for, and that the next groups are read and asked for
/// meanwhile.
#[test]
fn what_is_recorded_late_is_recorded_in_order() {
    let log: Vec<_> = (0..40).map(|seq| fixture::group(seq as i64, seq)).collect();
    let mut settings = settings_of(&Logs::from(&log));
    settings.learner.max_age = None;
    let folder = tempfile::tempdir().unwrap();
    let (tell, events) = mpsc::unbounded_channel();
    let waiting = WAITING.get_or_init(|| Waiting {
        folder: folder.path().to_owned(),
        events: Arc::new(Mutex::new(events)),
        early: Mutex::new(Vec::new()),
    });
    let (every, name) = (
        settings.learner.checkpoint_every,
        settings.learner.name.clone(),
    );
    let asked = Asked::default();
    let summary = run_in(async {
        let store = begin(folder.path()).await;
        let learner = Learner::open(
            settings,
            "process".to_owned(),
            Records::new(store.clone(), name.clone()),
            Weights::new(store, name),
            Outlet::without_log(tell),
            &[],
            Box::leak(Box::new(waiting)),
        );
        let learner = Box::pin(learner).await?;
        let source = AtHand(log.into_iter());
        let inputs = Inputs::new(Box::new(source), Box::new(asked.clone()));
        Box::pin(learner.run(inputs, &CancellationToken::new())).await
    });
    let summary = summary.unwrap();
    assert!(summary.finished, "{summary:?}");
    let overlapping = (1..STEPS).filter(|number| !number.is_multiple_of(every));
    let overlapping: Vec<_> = overlapping.collect();
    assert_eq!(*waiting.early.lock().unwrap(), overlapping);
    assert!(overlapping.len() > 1);
    let was_asked = &asked.0.lock().unwrap().1;
    let after = overlapping.iter().map(|number| *number as usize + 1);
    for next in after.filter(|next| *next < STEPS as usize) {
        assert!(was_asked[next], "update {next}");
    }
}

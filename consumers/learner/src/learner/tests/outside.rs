//! Tests of an engine outside of this program: it asks for every update, and its bits are its own.

use std::sync::OnceLock;

use tokio::sync::watch;
use vintage_control::{Fingerprint, Plan};
use vintage_settings::Device;
use vintage_store::{Records, Weights};

use super::*;
use crate::{
    adamw::AdamW,
    devices::{CpuOnly, Devices},
    engine::{UpdateEngine, UpdateStats},
    extent::Extent,
    fingerprint,
    host::HostEngine,
    learner::fixture::{Logs, Recorded},
    pack::PackedBatch,
    replay::{Recording, replay},
};

/// Devices of a program that asks for each update.
#[derive(Debug)]
struct Asking {
    wanted: watch::Sender<bool>,
}

/// Kernels of the CPU that say of themselves that they are PyTorch, and check what they are handed.
#[derive(Debug)]
struct Outside {
    inner: HostEngine,
    fingerprint: Fingerprint,
}

impl Devices for Asking {
    fn open(&self, _: Device, optimizer: AdamW) -> Result<Box<dyn UpdateEngine>> {
        Ok(Box::new(Outside {
            inner: HostEngine::new(optimizer),
            fingerprint: fingerprint::of_torch("torch 9.9", "cpu"),
        }))
    }

    fn wanted(&self) -> Option<watch::Receiver<bool>> {
        Some(self.wanted.subscribe())
    }
}

impl UpdateEngine for Outside {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn shares_prompts(&self) -> bool {
        false
    }

    fn update(
        &mut self,
        decoder: &mut vintage_model::Decoder,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<()> {
        let rows = || batches.iter().flat_map(|batch| &batch.rows);
        assert_eq!(rows().count() as u64, outcome.rows);
        let mut staleness = BTreeMap::new();
        for batch in batches {
            let mut targets = batch.valid.iter();
            for row in &batch.rows {
                assert!((row.group as usize) < plan.groups.len());
                assert_eq!(row.spans[0].start, 0);
                for place in 0..row.targets {
                    let of = row.spans.iter().rev().find(|span| span.start <= place);
                    if *targets.next().expect("a target for every token") {
                        *staleness.entry(of.unwrap().staleness).or_default() += 1;
                    }
                }
            }
            assert!(targets.next().is_none());
        }
        assert_eq!(staleness, outcome.staleness, "by row as by group");
        self.inner.update(decoder, plan, batches, outcome)
    }

    fn optimizer(&self) -> Result<std::borrow::Cow<'_, AdamW>> {
        self.inner.optimizer()
    }

    fn forget_parameters(&mut self) -> Result<()> {
        self.inner.forget_parameters()
    }
}

fn asking() -> &'static Asking {
    static ASKING: OnceLock<Asking> = OnceLock::new();
    ASKING.get_or_init(|| Asking {
        wanted: watch::Sender::new(true),
    })
}

fn logs(log: &[crate::source::Incoming]) -> Logs<'_> {
    Logs {
        devices: asking(),
        ..log.into()
    }
}

/// Checks that nothing is planned before it is wanted, that a learner waiting to be asked can be
/// stopped, and that the next one goes on.
#[test]
fn no_update_is_planned_before_it_is_wanted() {
    let log = log();
    let folder = tempfile::tempdir().unwrap();
    run_in(async {
        let store = begin(folder.path()).await;
        asking().wanted.send_replace(false);
        let opened = open(store.clone(), "first".to_owned(), logs(&log)).await;
        let (learner, inputs) = opened.unwrap();
        let stop = CancellationToken::new();
        let mut running = Box::pin(learner.run(inputs, &stop));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut running).await;
        assert!(early.is_err(), "it waits to be asked: {early:?}");
        assert!(!folder.path().join("plans/lead/0.json").exists());
        stop.cancel();
        let summary = running.await.unwrap();
        assert_eq!(summary.version, PolicyVersion::ZERO);
        asking().wanted.send_replace(true);
        let second = live(store, "second".to_owned(), logs(&log));
        let summary = Box::pin(second).await.unwrap();
        assert!(summary.finished, "{summary:?}");
    });
    let (plans, ..) = outcome(folder.path());
    for plan in &plans {
        assert_eq!(plan.fingerprint.device, fingerprint::TORCH);
    }
    // The kernels are the CPU's, and still nothing is compared.
    let refused = run_in(async {
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let name: vintage_control::Name = "lead".parse().unwrap();
        let extent = Extent::read(&store, &name, &name).await.unwrap();
        let recording = Recording {
            source: &mut Recorded::from(&log, &[]),
            start: &[],
            blended: None,
            extent: &extent,
        };
        let records = Records::new(store.clone(), name.clone());
        let weights = Weights::new(store, name);
        replay(&records, &weights, recording, &CpuOnly, |_| {}).await
    });
    let error = refused.expect_err("bits of another program");
    assert!(matches!(error, Error::ByPyTorch { .. }), "{error}");
    assert!(error.to_string().contains("torch 9.9"), "{error}");
}

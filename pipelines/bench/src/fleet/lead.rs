//! Lead learner of the simulation: the program's intake and granter, and updates that take the time
//! they are told.

use std::collections::{BTreeMap, VecDeque};

use vintage_control::{
    CONTROL_FORMAT, Fingerprint, Grants, Heartbeat, Name, NumberSet, Plan, PolicyAnnouncement,
    PolicyVersion, Sha256, UpdateNumber,
};
use vintage_grants::{GateRule, Granter, Limits, Patience, Progress};
use vintage_learner::{
    Incoming, LearnerProgress, LearnerSettings, fingerprint,
    intake::{Intake, ReadyGroup, judge::PermittedVersions},
};
use vintage_settings::{LearnerConfig, RunConfig};

use super::{
    clock::Time,
    message::CONTEXT,
    settings::{Fleet, Rule},
    stopwatch::{Part, Stopwatch},
    tally::Tally,
};
use crate::error::{Result, of};

/// Number of versions whose weights can be fetched, for the size of an announcement.
const RETAINED: u64 = 8;

/// Learner and granter.
#[derive(Debug)]
pub(super) struct Lead {
    settings: LearnerSettings,
    fingerprint: Fingerprint,
    intake: Intake,
    granter: Granter,
    leases: bool,
    /// Records that are decoded and not taken yet.
    inbox: VecDeque<Incoming>,
    taken: u64,
    /// Number of updates done.
    version: PolicyVersion,
    /// Newest version announced.
    pub(super) announced: PolicyVersion,
    updating: Option<Plan>,
    /// Reports that the granter has not heard yet.
    progress: Vec<LearnerProgress>,
    reports: Vec<Heartbeat>,
}

impl Lead {
    pub(super) fn new(fleet: &Fleet, policy: &Name) -> Self {
        let learner = LearnerConfig {
            policy: policy.clone(),
            steps: fleet.updates,
            prompts_per_update: fleet.groups_per_update as usize,
            ..LearnerConfig::default()
        };
        let algorithm = RunConfig::default().algorithm();
        let leases = fleet.rule == Rule::Leases;
        let settings = LearnerSettings {
            max_staleness: leases.then_some(fleet.max_staleness),
            ..LearnerSettings::new(learner, fleet.seed, algorithm, CONTEXT, CONTEXT)
        };
        let limits = Limits {
            rule: GateRule::Wait {
                max_staleness: fleet.max_staleness,
            },
            groups_per_update: fleet.groups_per_update,
            updates: fleet.updates,
        };
        let lead = "lead".to_owned();
        let (patience, done) = (Patience::default(), NumberSet::default());
        Self {
            intake: Intake::new(settings.clone(), &[], &BTreeMap::new()),
            settings,
            fingerprint: fingerprint::current(),
            granter: Granter::new(policy.clone(), lead, limits, patience, done, None),
            leases,
            inbox: VecDeque::new(),
            taken: 0,
            version: PolicyVersion::default(),
            announced: PolicyVersion::default(),
            updating: None,
            progress: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub(super) fn version(&self) -> PolicyVersion {
        self.version
    }

    pub(super) fn is_finished(&self) -> bool {
        self.version.0 >= self.settings.learner.steps
    }

    /// Returns the number of groups of the log, which has `logged`, that are neither trained nor
    /// rejected.
    pub(super) fn in_flight(&self, logged: u64) -> u64 {
        let updating = self.updating.as_ref().map_or(0, |plan| plan.groups.len());
        let waiting = self.intake.ready_groups() + self.intake.refusals() as u64;
        logged - self.taken + waiting + updating as u64
    }

    pub(super) fn deliver(&mut self, incoming: Incoming) {
        self.inbox.push_back(incoming);
    }

    pub(super) fn hear(&mut self, heartbeat: Heartbeat) {
        self.reports.push(heartbeat);
    }

    /// Takes records until an update has its groups, as the learner's main loop does; returns true
    /// if it begins one.
    pub(super) fn work(&mut self, watch: &mut Stopwatch, tally: &mut Tally) -> Result<bool> {
        if self.updating.is_some() || self.is_finished() {
            return Ok(false);
        }
        let update = UpdateNumber(self.version.0);
        let wanted = self.settings.learner.live_groups();
        let newest = PermittedVersions::UpTo(Some(self.announced));
        loop {
            let chosen = watch.time(Part::Intake, || self.intake.choose(update, wanted));
            if let Some(groups) = chosen {
                self.report(update.next(), false);
                self.plan(&groups, watch, tally);
                return Ok(true);
            }
            self.report(update, true);
            let Some(incoming) = self.inbox.pop_front() else {
                return Ok(false);
            };
            self.taken += 1;
            let taken = watch.time(Part::Intake, || self.intake.take(incoming, newest));
            taken.map_err(of("the intake"))?;
        }
    }

    fn plan(&mut self, groups: &[ReadyGroup], watch: &mut Stopwatch, tally: &mut Tally) {
        for group in groups {
            tally.train(self.version.staleness_of(group.min_version()).0);
        }
        let rejections = watch.time(Part::Intake, || self.intake.drain_refused());
        tally.reject(&rejections);
        let learner = &self.settings.learner;
        self.updating = Some(Plan {
            format: CONTROL_FORMAT.to_owned(),
            learner: learner.name.clone(),
            writer: "lead".to_owned(),
            policy: learner.policy.clone(),
            version: self.version,
            weights_sha256: Sha256([0; 32]),
            seed: self.settings.seed,
            groups: groups.iter().map(|group| group.planned.clone()).collect(),
            micro_batches: Vec::new(),
            rejections,
            algorithm: self.settings.algorithm.clone(),
            optimizer: learner.optimizer.clone(),
            training: learner.training(),
            fingerprint: self.fingerprint.clone(),
            follows: None,
            known: Vec::new(),
            reused: Vec::new(),
            reuse: vintage_control::Reuse::default(),
        });
    }

    /// Ends the update, and makes the records of a checkpoint if one is due.
    pub(super) fn updated(&mut self, watch: &mut Stopwatch) {
        let Some(plan) = self.updating.take() else {
            return;
        };
        self.version = self.version.next();
        let due = self
            .version
            .0
            .is_multiple_of(self.settings.learner.checkpoint_every);
        watch.time(Part::Intake, || {
            self.intake.finish(&plan);
            if due {
                std::hint::black_box((
                    self.intake.resume_points(),
                    self.intake.finished_numbers(),
                    self.intake.waiting(),
                ));
            }
        });
    }

    /// Announces the newest version; returns the size of the record.
    pub(super) fn announce(&mut self, trained: u64, rejected: u64) -> Result<usize> {
        self.announced = self.version;
        self.report(UpdateNumber(self.version.0), false);
        let learner = &self.settings.learner;
        let record = PolicyAnnouncement {
            format: CONTROL_FORMAT.to_owned(),
            policy: learner.policy.clone(),
            version: self.version,
            weights_sha256: Sha256([0; 32]),
            retained: (self.version.0.saturating_sub(RETAINED)..=self.version.0)
                .map(PolicyVersion)
                .collect(),
            groups_trained: trained,
            groups_rejected: rejected,
            numbered_rejections: None,
            refused_batches: BTreeMap::new(),
            groups_per_update: learner.live_groups() as u64,
            steps: Some(learner.steps),
            finished: self.is_finished(),
        };
        size_of(&record)
    }

    fn report(&mut self, next_update: UpdateNumber, starving: bool) {
        if !self.leases {
            return;
        }
        self.progress.push(LearnerProgress {
            seen: self.intake.take_seen_slots(),
            distrusted: Vec::new(),
            progress: Progress {
                announced: self.announced,
                next_update,
                waiting: self.intake.ready_groups(),
                refused: self.intake.refused_batches(next_update),
                starving,
            },
        });
    }

    /// Returns true if the granter has something to hear.
    pub(super) fn has_news(&self) -> bool {
        !self.progress.is_empty() || !self.reports.is_empty()
    }

    /// Wakes the granter: it hears what is there, and grants.
    pub(super) fn wake(&mut self, now: Time, watch: &mut Stopwatch) -> Vec<Grants> {
        let tick = now.tick();
        let (reports, progress) = (&mut self.reports, &mut self.progress);
        let granter = &mut self.granter;
        watch.wake();
        watch.time(Part::Gate, || {
            for heartbeat in reports.drain(..) {
                granter.hear(tick, &heartbeat);
            }
            for report in progress.drain(..) {
                for (slot, sampled_for) in report.seen {
                    let batch = sampled_for.map_or(-1, UpdateNumber::to_batch);
                    granter.seen(tick, slot, batch);
                }
                granter.advance(tick, report.progress);
            }
            granter.grant(tick)
        })
    }
}

/// Returns the size of a control record in its message, in bytes.
pub(super) fn size_of(record: &impl serde::Serialize) -> Result<usize> {
    let json = serde_json::to_vec(record).map_err(of("writing a control record"))?;
    Ok(json.len())
}

//! Grants of slots to the producers of a run, under one bound for all of them.
//!
//! A slot is a position in the order of prompts. The lead learner grants leases of slots; a
//! producer samples nothing without one. The learner sees every group in the log, so the count of
//! what is under way cannot drift: a lease ends when its group is seen, and the slot of one that is
//! not filled is granted again.
//!
//! Everything here is a function of its inputs: no IO, no clock, no randomness.
//!
//! ```
//! use vintage_control::{Heartbeat, NumberSet, ProducerWindow, Sha256, SlotNumber};
//! use vintage_grants::{GateRule, Granter, Limits, Patience, Progress, Tick};
//!
//! let limits = Limits {
//!     rule: GateRule::Wait { max_staleness: 1 },
//!     groups_per_update: 2,
//!     updates: 100,
//! };
//! let patience = Patience { silence: 10_000, lease: 30_000 };
//! let done = NumberSet::default();
//! let policy: vintage_control::Name = "lead".parse()?;
//! let mut granter = Granter::new(policy.clone(), "lead-1".to_owned(), limits, patience, done, None);
//!
//! let heartbeat = |producer: &str| Heartbeat {
//!     format: vintage_control::CONTROL_FORMAT.to_owned(),
//!     policy: policy.clone(),
//!     producer: producer.to_owned(),
//!     number: 0,
//!     grants_read: None,
//!     capacity: 3,
//!     held: ProducerWindow::default(),
//!     failed: ProducerWindow::default(),
//!     given_back: ProducerWindow::default(),
//!     slots_sha256: Sha256([7; 32]),
//!     slots: None,
//!     leaving: false,
//! };
//! granter.hear(Tick(0), &heartbeat("a"));
//! granter.hear(Tick(0), &heartbeat("b"));
//! granter.advance(Tick(0), Progress::default());
//!
//! // (0 + 1 + 1) updates of 2 groups may be under way, whoever samples them.
//! let grants = granter.grant(Tick(0));
//! let leases: usize = grants.iter().map(|of| of.leases.len()).sum();
//! assert_eq!((grants.len(), leases), (2, 4));
//!
//! // Each update of the learner makes room for two more.
//! let progress = Progress { announced: vintage_control::PolicyVersion(1), next_update: vintage_control::UpdateNumber(1), ..Progress::default() };
//! granter.seen(Tick(5), SlotNumber(0), -1);
//! granter.seen(Tick(6), SlotNumber(1), -1);
//! granter.advance(Tick(7), progress);
//! granter.grant(Tick(7));
//! assert_eq!(granter.outstanding(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod granter;
mod holder;
mod holders;
mod limits;
mod meaning;
mod slots;
mod view;

pub use clock::Tick;
pub use granter::{CHECK_EVERY, Granter, Patience, Progress};
pub use limits::{BadLimits, GateRule, Limits};
pub use view::ProducerView;

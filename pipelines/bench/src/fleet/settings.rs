//! Settings of a simulated fleet.

use serde::Serialize;

use crate::error::{Error, Result};

/// Rule by which producers take work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Leases of the lead: one bound for all.
    Leases,
    /// Baseline: each producer counts its own groups only, so that each fills the whole demand.
    EachForItself,
}

/// Simulated fleet, its learner and what lies between them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fleet {
    /// Seed of all random times.
    pub seed: u64,
    /// Rule by which producers take work.
    pub rule: Rule,
    /// Number of producers.
    pub producers: usize,
    /// Number of updates to simulate.
    pub updates: u64,
    /// Number of groups that an update takes.
    pub groups_per_update: u64,
    /// Number of rollouts in a group.
    pub group_size: u16,
    /// Bound of staleness, in updates.
    pub max_staleness: u64,
    /// Number of groups that a producer samples together, at most.
    pub concurrent_groups: usize,
    /// Mean time of sampling one group, in seconds; those sampled together end with the last one.
    pub group_seconds: f64,
    /// Shape of the Pareto distribution of that time, above 1; without end, all take the mean.
    pub tail: f64,
    /// Time that an update takes to compute and record, in seconds.
    pub update_seconds: f64,
    /// Size of a message, which holds one group, in bytes.
    pub message_bytes: f64,
    /// Size of one version's weights, in bytes.
    pub weights_bytes: f64,
    /// Trouble of producers.
    pub churn: Churn,
    /// Stated capacities.
    pub capacities: Capacities,
}

/// Trouble that every producer has at random times. Times are in seconds; a mean of 0 means never.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Churn {
    /// Mean time until a producer is killed.
    pub kill_every: f64,
    /// Time after which another producer joins in its place.
    pub join_after: f64,
    /// Mean time until a producer is stopped.
    pub stop_every: f64,
    /// Time after which it is continued.
    pub stop_for: f64,
}

/// Capacities of the parts between producers and learner. Bytes and records are per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Capacities {
    /// Number of partitions of the log.
    pub partitions: usize,
    /// Bytes that a partition takes.
    pub partition: f64,
    /// Bytes that the brokers send to readers, together.
    pub broker_out: f64,
    /// Bytes that the learner consumes, checks and decodes.
    pub decode: f64,
    /// Bytes that the archive takes; it holds nobody up.
    pub archive: f64,
    /// Bytes that the store sends and takes.
    pub store: f64,
    /// Requests that the store answers.
    pub store_requests: f64,
    /// Control records that one producer reads: all producers read all grants.
    pub control_records: f64,
    /// Times that the granter can wake.
    pub gate_wakes: f64,
    /// Seconds from a record's end of transfer to its reader.
    pub latency: f64,
}

impl Fleet {
    /// Checks that all settings are in range.
    ///
    /// # Errors
    /// [`Error::Failed`] that names the setting.
    pub fn check(&self) -> Result<()> {
        let Capacities {
            partitions,
            partition,
            broker_out,
            decode,
            archive,
            store,
            store_requests,
            control_records,
            gate_wakes,
            latency,
        } = self.capacities;
        let counts = [
            ("producers", self.producers),
            ("updates", self.updates as usize),
            ("groups per update", self.groups_per_update as usize),
            ("group size", self.group_size.into()),
            ("concurrent groups", self.concurrent_groups),
            ("partitions", partitions),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::Failed(format!("{name} must be at least 1")));
        }
        let positive = [
            ("group seconds", self.group_seconds),
            ("update seconds", self.update_seconds),
            ("message size", self.message_bytes),
            ("the capacity of a partition", partition),
            ("the capacity of the brokers", broker_out),
            ("the capacity of decoding", decode),
            ("the capacity of the archive", archive),
            ("the capacity of the store", store),
            ("the store's requests", store_requests),
            ("control records", control_records),
            ("the granter's wakes", gate_wakes),
        ];
        if let Some((name, value)) = positive
            .iter()
            .find(|(_, value)| value.is_nan() || *value <= 0.0)
        {
            return Err(Error::Failed(format!(
                "{name} must be above 0, not {value}"
            )));
        }
        let Churn {
            kill_every,
            join_after,
            stop_every,
            stop_for,
        } = self.churn;
        let times = [
            ("weights size", self.weights_bytes),
            ("latency", latency),
            ("the time to a kill", kill_every),
            ("the time to join", join_after),
            ("the time to a stop", stop_every),
            ("the time of a stop", stop_for),
        ];
        let bad = times
            .iter()
            .find(|(_, value)| !(*value >= 0.0 && value.is_finite()));
        if let Some((name, value)) = bad {
            return Err(Error::Failed(format!(
                "{name} must be at least 0, not {value}"
            )));
        }
        if self.tail > 1.0 {
            Ok(())
        } else {
            let what = format!("the tail's shape must be above 1, not {}", self.tail);
            Err(Error::Failed(what))
        }
    }
}

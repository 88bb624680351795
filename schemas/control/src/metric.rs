//! Every metric that a process serves: its name, kind and meaning, once.

/// Kind of a metric, as Prometheus has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Count that only grows.
    Counter,
    /// Value at the moment.
    Gauge,
    /// Distribution of durations, in seconds.
    Seconds,
}

/// Metric of the Prometheus endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name, as Prometheus knows it.
    pub name: &'static str,
    /// Kind, which gives the unit of a distribution.
    pub kind: MetricKind,
    /// Help text: the meaning, and the labels.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        help,
    }
}

impl Metric {
    /// Groups the log acknowledged to this producer.
    pub const GROUPS_PRODUCED: Self = counter(
        "vintage_groups_produced_total",
        "Groups the log acknowledged",
    );
    /// Requests to inference servers that failed.
    pub const ENGINE_FAILURES: Self = counter(
        "vintage_engine_failures_total",
        "Requests to inference servers that failed, and replies that were refused, by reason",
    );
    /// Groups that updates trained on.
    pub const GROUPS_TRAINED: Self =
        counter("vintage_groups_trained_total", "Groups trained, by learner");
    /// Groups that plans reject.
    pub const GROUPS_REJECTED: Self = counter(
        "vintage_groups_rejected_total",
        "Groups that plans reject, by learner and reason; second copies are duplicate",
    );
    /// Records in committed archive files.
    pub const RECORDS_ARCHIVED: Self = counter(
        "vintage_records_archived_total",
        "Records in committed archive files",
    );
    /// Records the archive keeps undecoded.
    pub const RECORDS_QUARANTINED: Self = counter(
        "vintage_records_quarantined_total",
        "Records the archive could not decode, by reason",
    );
    /// Records that retention deleted before they were archived.
    pub const RECORDS_LOST: Self = counter(
        "vintage_archive_lost_total",
        "Records that were gone from the log before they were archived, by reason",
    );
    /// Attempts to commit an archive file that the store's state made fail.
    pub const ARCHIVE_BLOCKED: Self = counter(
        "vintage_archive_blocked_total",
        "Attempts of the archive to write that the store's state made fail, by reason",
    );
    /// Records between a reader and the end of the log.
    pub const LAG: Self = gauge(
        "vintage_lag_records",
        "Records of the log not read yet, by reader",
    );
    /// Time that updates take.
    pub const UPDATE_SECONDS: Self = Self {
        name: "vintage_update_seconds",
        kind: MetricKind::Seconds,
        help: "Computing an update",
    };

    /// Slots without a producer.
    pub const SLOTS_UNGRANTED: Self = gauge(
        "vintage_slots_ungranted",
        "Slots that the bound permits and no producer has room for, by learner",
    );
    /// Staleness of what the last update trained on.
    pub const STALENESS: Self = gauge(
        "vintage_staleness_updates",
        "Highest staleness in the last update, in updates, by learner",
    );
    /// Bound of the staleness.
    pub const STALENESS_BOUND: Self = gauge(
        "vintage_staleness_bound_updates",
        "Highest staleness that an update accepts, in updates, by learner",
    );
    /// Number of slots that the bound permits.
    pub const SLOTS_BOUND: Self = gauge(
        "vintage_slots_bound",
        "Slots that may be granted or wait to be trained at once, by learner",
    );
    /// Mean difference between an engine's log-probs and those of its version.
    pub const MISMATCH: Self = gauge(
        "vintage_mismatch_nats",
        "Mean difference between reported and recomputed log-probs, in nats a token, by learner and \
         engine",
    );
    /// Divergence of the model from an engine.
    pub const MISMATCH_KL: Self = gauge(
        "vintage_mismatch_kl_nats",
        "Divergence of the recomputed from the reported log-probs (k3), in nats a token, by learner \
         and engine",
    );
    /// Time for which a producer had no leases.
    pub const WAITING_SECONDS: Self = counter(
        "vintage_producer_waiting_seconds_total",
        "Seconds for which the producer had no leases; a wait counts when it ends",
    );

    /// Mean reward of the last update's rows.
    pub const REWARD: Self = gauge(
        "vintage_reward",
        "Mean reward in the last update, by learner",
    );
    /// Loss of the last update.
    pub const LOSS: Self = gauge("vintage_loss", "Loss of the last update, by learner");
    /// Distance of the new policy from what sampled the last update's batch.
    pub const KL: Self = gauge(
        "vintage_kl_nats",
        "Mean of sampled minus new log-prob in the last update, in nats a token, by learner",
    );
    /// Entropy on the last update's tokens.
    pub const ENTROPY: Self = gauge(
        "vintage_entropy_nats",
        "Mean entropy in the last update, in nats a token, by learner",
    );
    /// Second moment that the rule bounds.
    pub const M2: Self = gauge(
        "vintage_m2",
        "Second moment of the log-ratio before masking in the last update, by learner",
    );
    /// Share of tokens that the rule removed.
    pub const MASKED: Self = gauge(
        "vintage_masked_share",
        "Share of tokens that the last update masked or clipped, by learner",
    );
    /// Effective share of rows.
    pub const EFFECTIVE_ROWS: Self = gauge(
        "vintage_effective_rows_share",
        "Effective share of the last update's rows by their importance weights, by learner",
    );
    /// Clipped concentrability.
    pub const CONCENTRABILITY: Self = gauge(
        "vintage_concentrability",
        "Clipped concentrability of the last update's rows, by learner",
    );
    /// Accuracy on held-out prompts.
    pub const ACCURACY: Self = gauge(
        "vintage_accuracy",
        "Mean reward on held-out prompts in the last evaluation, by policy and kind (sampled, greedy)",
    );

    /// Every metric.
    pub const ALL: [Self; 26] = [
        Self::GROUPS_PRODUCED,
        Self::ENGINE_FAILURES,
        Self::GROUPS_TRAINED,
        Self::GROUPS_REJECTED,
        Self::RECORDS_ARCHIVED,
        Self::RECORDS_QUARANTINED,
        Self::RECORDS_LOST,
        Self::ARCHIVE_BLOCKED,
        Self::LAG,
        Self::UPDATE_SECONDS,
        Self::SLOTS_UNGRANTED,
        Self::STALENESS,
        Self::STALENESS_BOUND,
        Self::SLOTS_BOUND,
        Self::MISMATCH,
        Self::MISMATCH_KL,
        Self::WAITING_SECONDS,
        Self::REWARD,
        Self::LOSS,
        Self::KL,
        Self::ENTROPY,
        Self::M2,
        Self::MASKED,
        Self::EFFECTIVE_ROWS,
        Self::CONCENTRABILITY,
        Self::ACCURACY,
    ];
}

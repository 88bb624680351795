//! Records for tests.

use std::collections::BTreeMap;

use vintage_control::{CONTROL_FORMAT, PolicyVersion, Sha256, UpdateResult};

pub(crate) fn result(version: u64) -> UpdateResult {
    UpdateResult {
        format: CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().expect("a name"),
        policy: "lead".parse().expect("a name"),
        version: PolicyVersion(version),
        weights_sha256: Sha256([0; 32]),
        skipped: None,
        loss: 0.1,
        grad_norm: 0.2,
        groups: 16,
        rows: 128,
        tokens: 1000,
        all_tokens: 1500,
        trust_tokens: 500,
        masked_tokens: 20,
        clip_fraction: 0.02,
        m2_before: 0.05,
        m2_after: 0.04,
        m2_all: 0.06,
        kl: 0.01,
        max_log_ratio: 1.0,
        clamped_tokens: 0,
        entropy: 0.3,
        reward: 0.5,
        equal_groups: None,
        cut_rows: None,
        reused_groups: 0,
        kl_reference: None,
        gradient_cosine: None,
        effective_rows: None,
        effective_tokens: None,
        concentrability: None,
        kl_previous: None,
        mean_staleness: 6.0,
        max_staleness: 17,
        staleness: BTreeMap::new(),
        lag_tokens: 0,
        mismatch: Vec::new(),
        wait_seconds: 0.1,
        update_seconds: 0.1,
        record_seconds: 0.05,
        finished_at_ms: 0,
    }
}

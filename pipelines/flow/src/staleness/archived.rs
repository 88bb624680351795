//! Groups of an archive: which there are, and their rows.

use std::collections::BTreeMap;

use vintage_ages::Sampled;
use vintage_archive::Reader;
use vintage_control::{Name, Offset, RecordId};
use vintage_mismatch::{Incomparable, Limits, Row};
use vintage_trajectory::{GroupId, Headers, validate};

use crate::error::Result;

/// Whole groups of a policy that an archive holds.
#[derive(Default)]
pub(super) struct Archived {
    /// Groups by the versions that sampled them.
    pub(super) sampled: Vec<Sampled>,
    /// Records of each group, by its place in `sampled`.
    records: Vec<Vec<RecordId>>,
    /// Number of groups of each other policy.
    pub(super) others: BTreeMap<String, u64>,
    /// Number of groups that could not be taken, by reason.
    pub(super) left_out: BTreeMap<&'static str, u64>,
}

/// Rollout of a group, with its reward.
pub(super) struct Rewarded {
    pub(super) row: Row,
    pub(super) reward: f32,
}

/// Parts of a group that were met.
struct Parts {
    policy: String,
    replayed: bool,
    of: u32,
    records: BTreeMap<u32, RecordId>,
    sampled: Sampled,
}

impl Archived {
    /// Reads the headers of all groups.
    pub(super) async fn read(reader: &Reader, policy: &Name) -> Result<Self> {
        let mut groups: BTreeMap<GroupId, Parts> = BTreeMap::new();
        for incarnation in reader.incarnations().await? {
            for partition in reader.partitions(incarnation).await? {
                let mut heads = reader.heads(incarnation, partition, Offset(0)).await?;
                while let Some(head) = heads.next().await? {
                    let whole = !head.quarantined;
                    if let Some(headers) = head.headers.ok().filter(|_| whole) {
                        meet(&mut groups, headers, head.record);
                    }
                }
            }
        }
        let mut archived = Self::default();
        for parts in groups.into_values() {
            if parts.policy != policy.as_str() {
                *archived.others.entry(parts.policy).or_default() += 1;
            } else if parts.replayed {
                archived.leave_out("replayed from another topic");
            } else if parts.records.len() < parts.of as usize {
                archived.leave_out("not whole in the archive");
            } else {
                archived.sampled.push(parts.sampled);
                archived.records.push(parts.records.into_values().collect());
            }
        }
        Ok(archived)
    }

    /// Reads the rows of a group, in the order of their numbers; `None` if they cannot be recomputed,
    /// for a reason that is counted.
    pub(super) async fn rows(
        &mut self,
        reader: &Reader,
        group: usize,
        limits: Limits,
    ) -> Result<Option<Vec<Rewarded>>> {
        let mut taken = Vec::new();
        let mut size = 0;
        for record in &self.records[group] {
            let read = reader.message(*record).await?.into_read();
            let Some((_, rows)) = read.ok().filter(|(_, rows)| validate(rows).is_ok()) else {
                self.leave_out("malformed");
                return Ok(None);
            };
            for row in 0..rows.len() {
                match Row::take(&rows, row, limits) {
                    Ok(taken_row) => {
                        size = usize::from(rows.group_size(row));
                        taken.push(Rewarded {
                            row: taken_row,
                            reward: rows.reward(row),
                        });
                    }
                    Err(reason) => {
                        self.leave_out(Incomparable::as_str(reason));
                        return Ok(None);
                    }
                }
            }
        }
        if taken.len() < size {
            self.leave_out("not whole in the archive");
            return Ok(None);
        }
        taken.sort_by_key(|taken| taken.row.sample_index);
        Ok(Some(taken))
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }
}

/// Takes up a part of a group. A second copy of a part changes nothing.
fn meet(groups: &mut BTreeMap<GroupId, Parts>, headers: Headers, record: RecordId) {
    let (part, of) = headers.part;
    let (oldest, newest) = (headers.min_policy_version, headers.max_policy_version);
    let parts = groups.entry(headers.group).or_insert_with(|| Parts {
        policy: headers.policy,
        replayed: headers.replay_of.is_some(),
        of,
        records: BTreeMap::new(),
        sampled: Sampled {
            id: headers.group.to_string(),
            oldest,
            newest,
        },
    });
    let sampled = &mut parts.sampled;
    sampled.oldest = sampled.oldest.min(oldest);
    sampled.newest = sampled.newest.max(newest);
    parts.records.entry(part).or_insert(record);
}

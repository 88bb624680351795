//! First records that a learner can still read, as its checkpoint and plans tell.

use std::collections::BTreeMap;

use vintage_control::{CheckpointManifest, LearnerStart, Offset, Plan};

use crate::choose::Place;

/// Returns the first offset of each partition that a learner can still read, or that one of
/// `plans` names. A partition that is not listed is read from its beginning.
///
/// `checkpoint` is the newest one that it can continue from. `plans` are those after it, which are
/// run again, and any others whose groups are to stay.
pub(crate) fn reads_from<'a>(
    start: Option<&LearnerStart>,
    checkpoint: Option<&CheckpointManifest>,
    plans: impl IntoIterator<Item = &'a Plan>,
) -> BTreeMap<Place, Offset> {
    let mut from = BTreeMap::new();
    for at in start.into_iter().flat_map(|start| &start.partitions) {
        from.insert((at.incarnation, at.partition), at.offset);
    }
    if let Some(checkpoint) = checkpoint {
        for at in &checkpoint.partitions {
            // The record before is read again, to see that the log is the same one.
            let before = Offset(at.resume.0.saturating_sub(1).max(0));
            from.insert((at.incarnation, at.partition), before);
        }
    }
    let waiting = checkpoint
        .into_iter()
        .flat_map(|checkpoint| &checkpoint.waiting);
    let planned = plans.into_iter().flat_map(|plan| {
        let groups = plan
            .groups
            .iter()
            .map(|group| (&group.source, &group.records));
        let refused = plan.rejections.iter();
        let refused = refused.map(|refused| (&refused.source, &refused.records));
        let reused = plan.reused.iter().map(|reused| &reused.group);
        let reused = reused.map(|group| (&group.source, &group.records));
        let named = groups.chain(reused).chain(refused);
        let own = named.filter(|(source, _)| source.is_none());
        own.flat_map(|(_, records)| records)
    });
    for record in waiting.chain(planned) {
        let place = (record.incarnation, record.partition);
        if let Some(first) = from.get_mut(&place) {
            *first = record.offset.min(*first);
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use vintage_control::{CheckpointManifest, Incarnation, LearnerStart, Offset, Partition, Plan};

    use super::reads_from;

    const CHECKPOINT: &str =
        include_str!("../../../schemas/control/tests/golden/checkpoint_manifest.json");
    const PLAN: &str = include_str!("../../../schemas/control/tests/golden/plan.json");
    const START: &str = include_str!("../../../schemas/control/tests/golden/learner_start.json");

    #[test]
    fn a_learner_reads_from_the_least_of_checkpoint_waiting_groups_and_plans() {
        let mut checkpoint: CheckpointManifest = serde_json::from_str(CHECKPOINT).unwrap();
        let mut plan: Plan = serde_json::from_str(PLAN).unwrap();
        let start: LearnerStart = serde_json::from_str(START).unwrap();
        let record = plan.groups[0].records[0];
        let place = (record.incarnation, record.partition);
        checkpoint.partitions[0].incarnation = record.incarnation;
        checkpoint.partitions[0].partition = record.partition;
        checkpoint.partitions[0].resume = Offset(record.offset.0 + 100);
        checkpoint.waiting.clear();
        plan.rejections.clear();
        plan.groups.truncate(1);
        plan.groups[0].records.truncate(1);

        let from = reads_from(None, Some(&checkpoint), []);
        assert_eq!(
            from[&place],
            Offset(record.offset.0 + 99),
            "the record before is read again"
        );
        let mut waiting = record;
        waiting.offset.0 += 50;
        checkpoint.waiting.push(waiting);
        let from = reads_from(None, Some(&checkpoint), []);
        assert_eq!(from[&place], Offset(record.offset.0 + 50));
        let from = reads_from(None, Some(&checkpoint), [&plan]);
        assert_eq!(from[&place], record.offset);
        plan.groups[0].source = Some("another".to_owned());
        let from = reads_from(None, Some(&checkpoint), [&plan]);
        assert_eq!(
            from[&place],
            Offset(record.offset.0 + 50),
            "not of this archive"
        );

        // Without a checkpoint it begins where it began, and elsewhere at the first record.
        let from = reads_from(Some(&start), None, []);
        let begun = start.partitions[0];
        assert_eq!(from[&(begun.incarnation, begun.partition)], begun.offset);
        assert_eq!(from.get(&(Incarnation(99), Partition(0))), None);
        assert!(reads_from(None, None, [&plan]).is_empty());
    }
}

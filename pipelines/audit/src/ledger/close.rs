//! Account of a learner, computed once all its plans were added.

use std::collections::HashMap;

use super::Ledger;
use crate::{
    counts::GroupAccount,
    fate::{Fate, Lost},
    findings::{Findings, ranges},
    inventory::producer::MissingNumbers,
};

impl Ledger<'_> {
    /// Counts every group once and returns the account.
    pub(crate) fn close(&mut self, lost: Lost, findings: &mut Findings) -> GroupAccount {
        let late = self.inventory.begins_late();
        let may_be_pruned = self.began_in_the_pruned();
        for (number, group) in self.inventory.groups().iter().enumerate() {
            let fate = self.fates[number];
            let found_in = group.records.map(|(first, _)| first.partition.0);
            let counts = self
                .account
                .of(self.planned_partitions[number].or(found_in));
            counts.produced += 1;
            counts.archived += u64::from(group.archived);
            match (group.records, fate) {
                (Some(_), Fate::Trained(_) | Fate::Rejected(..)) => {}
                (Some((_, last)), Fate::Open) => {
                    let place = (last.incarnation, last.partition);
                    let start = self.start.get(&place);
                    if start.is_some_and(|start| last.offset < *start) {
                        counts.before_start += 1;
                    } else {
                        counts.in_flight += 1;
                    }
                }
                (None, _) => {
                    let name = self.inventory.producer_of(group).unwrap_or_default();
                    let only_planned = self
                        .only_planned
                        .contains_key(&(name.to_owned(), group.seq));
                    if fate != Fate::Open && only_planned {
                        // Trained or rejected before its record was deleted.
                    } else if fate == Fate::Open && late {
                        counts.expired += 1;
                    } else if fate == Fate::Open && may_be_pruned {
                        counts.before_start += 1;
                    } else if lost == Lost::NotYet {
                        counts.in_flight += 1;
                        report_missing(lost, findings, || {
                            let named = self.inventory.named(group);
                            format!("{named} is acknowledged and not archived yet: in flight")
                        });
                    } else {
                        counts.lost += 1;
                        report_missing(lost, findings, || {
                            let named = self.inventory.named(group);
                            format!(
                                "{named} was acknowledged, and neither log nor archive holds it"
                            )
                        });
                    }
                }
            }
        }
        for ((producer, seq), (_, partition)) in &self.only_planned {
            if self.inventory.number(producer, *seq).is_none() {
                self.account.of(*partition).produced += 1;
            }
        }
        self.count_missing_numbers(late, lost, findings);
        for (place, partition_records) in self.inventory.partitions() {
            let counts = self.account.of(Some(place.1.0));
            for record in partition_records.records() {
                counts.quarantined += u64::from(record.archived && record.rows.is_none());
                counts.duplicated += u64::from(record.surplus);
            }
        }
        let account = std::mem::take(&mut self.account).close();
        for (partition, counts) in &account.partitions {
            if counts.balances() {
                continue;
            }
            findings.breach("the identity fails", || {
                format!(
                    "learner {} partition {partition}: {} produced, but {} trained + {} rejected \
                     + {} in flight + {} lost + {} before its start + {} expired",
                    self.name,
                    counts.produced,
                    counts.trained,
                    counts.rejections(),
                    counts.in_flight,
                    counts.lost,
                    counts.before_start,
                    counts.expired
                )
            });
        }
        account
    }

    /// Returns true if this learner began after records that were pruned since. Which of the groups
    /// that nothing holds were among them cannot be known; the account of a learner that read them
    /// tells.
    fn began_in_the_pruned(&self) -> bool {
        let mut starts = self.start.iter();
        starts.any(|(place, start)| {
            let partition = self.inventory.partitions().get(place);
            start.0 > 0 && partition.is_some_and(|records| records.pruned.is_some())
        })
    }

    /// Counts the missing numbers of producers without a journal.
    fn count_missing_numbers(&mut self, late: bool, lost: Lost, findings: &mut Findings) {
        let mut only_planned: HashMap<&str, Vec<u64>> = HashMap::new();
        for (name, seq) in self.only_planned.keys() {
            only_planned.entry(name).or_default().push(*seq);
        }
        for (producer, missing) in self.inventory.missing_numbers() {
            let MissingNumbers { found, runs, .. } = &missing;
            // A plan names those whose records were deleted, and they are counted by it.
            let name = producer.name.as_str();
            let planned = only_planned.get(name).into_iter().flatten();
            let planned = planned.filter(|&&seq| {
                producer.last.is_some_and(|last| seq < last)
                    && self.inventory.number(name, seq).is_none()
            });
            let all = (missing.all - found).saturating_sub(planned.count() as u64);
            if *found > 0 {
                findings.note("records whose headers do not give their number", || {
                    format!(
                        "{found} records of producer {} are taken for numbers of it that nothing \
                         bears: their headers do not say which",
                        producer.name
                    )
                });
            }
            if all == 0 {
                continue;
            }
            let counts = self.account.of(None);
            counts.produced += all;
            if late {
                counts.expired += all;
                continue;
            }
            match lost {
                Lost::NotYet => counts.in_flight += all,
                Lost::WithItsLog | Lost::Never => counts.lost += all,
            }
            report_missing(lost, findings, || {
                format!(
                    "producer {} left {all} numbers that nothing holds ({}); it has no journal \
                     here, and a producer numbers without gaps",
                    producer.name,
                    ranges(runs.iter().copied())
                )
            });
        }
    }
}

fn report_missing(lost: Lost, findings: &mut Findings, line: impl FnOnce() -> String) {
    match lost {
        Lost::Never => findings.breach("groups lost", line),
        Lost::WithItsLog => {
            findings.note("groups lost with a log that died with its process", line);
        }
        Lost::NotYet => findings.note("groups in the log of a running process", line),
    }
}

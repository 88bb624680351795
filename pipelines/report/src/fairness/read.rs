//! Pass over a run's plans and archive.

use vintage_archive::{ArchiveFile, ArchivedMessage, Reader};
use vintage_control::Name;
use vintage_store::{Records, Store};
use vintage_trajectory::Rows;

use super::{
    Producers,
    census::{Census, Message, Rollout},
    fates::{Fate, Fates, PlanPart},
};
use crate::{error::Result, numbered::each, samples::Samples};

/// Figures of the producers, and samples of the first and the last update.
#[derive(Debug)]
pub(crate) struct Rollouts {
    pub(crate) producers: Producers,
    pub(crate) samples: Samples,
}

/// Reads plans and archive once, one row group in memory at a time; returns `None` if nothing was
/// archived. Files that cannot be read are counted and passed over.
///
/// Plans are read first, so that in a run that goes on no plan names a record that was not looked
/// for.
pub(crate) async fn read(
    store: &Store,
    learner: &str,
    reader: &Reader,
) -> Result<Option<Rollouts>> {
    let incarnations = reader.incarnations().await?;
    if incarnations.is_empty() {
        return Ok(None);
    }
    let mut fates = Fates::default();
    if let Ok(name) = learner.parse::<Name>()
        && let Some(start) = Records::new(store.clone(), name).start().await?
    {
        fates.began_at(&start);
    }
    let plans = format!("plans/{learner}");
    each(store, &plans, |plan: PlanPart| fates.plan(plan)).await?;
    let mut census = Census::new(fates);
    let mut samples = Samples::default();
    let mut unreadable = 0;
    for incarnation in incarnations {
        for partition in reader.partitions(incarnation).await? {
            for base in reader.bases(incarnation, partition).await? {
                let read = match reader.file(incarnation, partition, base).await {
                    Ok(file) => read_file(reader, file, &mut census, &mut samples).await,
                    Err(error) => Err(error),
                };
                match read {
                    Ok(()) => {}
                    Err(
                        vintage_archive::Error::Corrupt { .. }
                        | vintage_archive::Error::NotUnderstood { .. },
                    ) => unreadable += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(Some(Rollouts {
        producers: census.close(unreadable),
        samples,
    }))
}

async fn read_file(
    reader: &Reader,
    file: ArchiveFile,
    census: &mut Census,
    samples: &mut Samples,
) -> vintage_archive::Result<()> {
    let mut messages = reader.messages_in(file);
    while let Some(message) = messages.next().await? {
        let rows = message.rows.as_ref().ok();
        let counted = counted(&message, rows);
        let Some(Fate::Trained(update)) = census.add(&counted) else {
            continue;
        };
        let Some(rows) = rows else { continue };
        for (row, rollout) in counted.rollouts.iter().enumerate() {
            let staleness = rollout
                .oldest
                .map(|oldest| census.staleness(update, counted.policy, oldest));
            samples.add(update, rows, row, &message.identity, staleness);
        }
    }
    Ok(())
}

fn counted<'a>(message: &'a ArchivedMessage, rows: Option<&'a Rows>) -> Message<'a> {
    let identity = &message.identity;
    let rollout = |rows: &Rows, row: usize| Rollout {
        tokens: rows.completion_tokens(row).len() as u64,
        reward: f64::from(rows.reward(row)),
        oldest: rows.policy_spans(row).map(|span| span.version).min(),
    };
    Message {
        record: message.record,
        producer: identity.producer.as_deref(),
        seq: identity.producer_seq,
        group: identity.group.map(|group| group.0),
        part: identity.part.unwrap_or((1, 1)),
        policy: rows
            .filter(|rows| !rows.is_empty())
            .map_or("", |rows| rows.policy(0)),
        rollouts: rows.map_or_else(Vec::new, |rows| {
            (0..rows.len()).map(|row| rollout(rows, row)).collect()
        }),
    }
}

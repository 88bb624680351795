//! Start of a sink, alone or as a member of a consumer group: recovery, then the consumer.

#[cfg(feature = "faults")]
mod sabotage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use vintage_bus::{Bus, Consumer, ConsumerLimits, StartOffsets};
use vintage_control::{Offset, Partition};

use super::{Sink, SinkTask, planned::Planned};
use crate::{
    error::{Error, Result},
    handle::SinkHandle,
    meta::ArchiveMeta,
    options::SinkOptions,
    path::TopicFolder,
    recover::{self, Start},
    retry::{self, Blocked, Patience},
    source::SinkSource,
};

/// Partition, its first offset in the log, and its first offset not written.
type Watermark = (Partition, Offset, Offset);

/// Longest time to wait for the store during a rebalance. The member holds up the whole group
/// meanwhile, and is expelled after five minutes (`max.poll.interval.ms`).
const REBALANCE_PATIENCE: Duration = Duration::from_secs(60);

impl Sink<Consumer> {
    /// Starts a sink: recovers where the archive ends, checks that the log continues there, and
    /// archives every partition of the topic, or those that `options.group` assigns to it, until
    /// `options.cancel` is cancelled or an error ends it.
    ///
    /// When this returns, the consumer exists: records produced from now on are seen.
    ///
    /// # Errors
    /// [`Error::Expired`], [`Error::Rewound`] and [`Error::OtherLog`] where log and archive do not
    /// meet; the bus's and the store's own errors. A trouble of the store that may pass is waited
    /// out for `options.patience`. Nothing half-written is left, and a new start resumes where the
    /// last file ends.
    pub async fn start(options: SinkOptions, bus: &Bus) -> Result<(SinkHandle, SinkTask)> {
        #[cfg(feature = "faults")]
        if sabotage::trusts_its_group(&options) {
            return sabotage::start(options, bus).await;
        }
        let (client, topic) = (options.client_id.clone(), options.topic.clone());
        let watermarks = bus.watermarks(&topic).await?;
        let limits = ConsumerLimits::default();
        let mut blocked = Blocked::new();
        let (topic_folder, starts) = recovered(&options, &watermarks, &mut blocked).await?;
        let Some(group) = options.group.clone() else {
            let source = bus.growing_consumer(&client, &topic, reads(&starts), limits)?;
            return Ok(Self::spawn(options, topic_folder, source, starts, blocked));
        };
        let planned = Planned::default();
        let start = starts_of(&options, bus, &planned);
        let source = bus.group_consumer(&client, &group, &topic, start, limits)?;
        let mut sink = Self::new(options, topic_folder, source, blocked);
        sink.planned = planned;
        Ok(sink.run_in_task())
    }
}

impl<S: SinkSource> Sink<S> {
    /// Starts a sink like [`Sink::start`] on records from any source. `watermarks` are partition,
    /// first offset and first offset not written of each partition; `source` makes the source that
    /// delivers the records from the given offsets on.
    pub async fn start_on(
        options: SinkOptions,
        watermarks: &[(Partition, Offset, Offset)],
        source: impl FnOnce(&[(Partition, Offset)]) -> Result<S> + Send,
    ) -> Result<(SinkHandle, SinkTask)> {
        let mut blocked = Blocked::new();
        let (topic_folder, starts) = recovered(&options, watermarks, &mut blocked).await?;
        let source = source(&reads(&starts))?;
        Ok(Self::spawn(options, topic_folder, source, starts, blocked))
    }

    pub(super) fn spawn(
        options: SinkOptions,
        topic_folder: Arc<TopicFolder>,
        source: S,
        starts: BTreeMap<Partition, Start>,
        blocked: Blocked,
    ) -> (SinkHandle, SinkTask) {
        let mut sink = Self::new(options, topic_folder, source, blocked);
        sink.assign(starts);
        sink.run_in_task()
    }
}

fn reads(starts: &BTreeMap<Partition, Start>) -> Vec<(Partition, Offset)> {
    let reads = starts.iter();
    reads
        .map(|(partition, start)| (*partition, start.read))
        .collect()
}

/// Returns a function that finds where a partition resumes at the moment it is assigned to this
/// member: another member may have archived it until now.
fn starts_of(options: &SinkOptions, bus: &Bus, planned: &Planned) -> StartOffsets {
    let (mut options, bus, planned) = (options.clone(), bus.clone(), planned.clone());
    options.patience = options.patience.min(REBALANCE_PATIENCE);
    let runtime = Handle::current();
    Arc::new(move |partition| {
        // Runs on the consumer's own thread, which is outside of any runtime.
        let start = runtime.block_on(async {
            let mut watermarks = bus.watermarks(&options.topic).await?;
            watermarks.retain(|(of, ..)| *of == partition);
            let recovered = recovered(&options, &watermarks, &mut Blocked::new()).await?;
            let (_, mut starts) = recovered;
            let gone = || Error::UnknownPartition {
                topic: options.topic.clone(),
                partition,
                known: "none of that number".to_owned(),
            };
            starts.remove(&partition).ok_or_else(gone)
        })?;
        let read = start.read;
        planned.put(partition, start);
        Ok(read)
    })
}

/// Sweeps staging files, agrees on where the archive begins, and finds where each partition
/// resumes.
pub(crate) async fn recovered(
    options: &SinkOptions,
    watermarks: &[Watermark],
    blocked: &mut Blocked,
) -> Result<(Arc<TopicFolder>, BTreeMap<Partition, Start>)> {
    let SinkOptions {
        store,
        topic,
        incarnation,
        ..
    } = options;
    let lows = watermarks.iter();
    let lows: BTreeMap<_, _> = lows.map(|(partition, low, _)| (*partition, *low)).collect();
    let patience: Patience<'_> = (options.patience, &options.cancel, &options.store);
    let (topic_folder, ends) = retry::on(topic, patience, blocked, || async {
        let topic_folder = TopicFolder::find(store, topic).await?;
        store.sweep("").await?;
        let meta = ArchiveMeta::agree(store, &topic_folder, *incarnation, lows.clone()).await?;
        let mut ends = Vec::with_capacity(watermarks.len());
        for (partition, ..) in watermarks {
            ends.push(recover::end(store, &topic_folder, &meta, *partition).await?);
        }
        Ok((topic_folder, ends))
    })
    .await?;
    let mut starts = BTreeMap::new();
    for (watermark, end) in watermarks.iter().zip(ends) {
        let start = recover::start(topic, *watermark, end, options.accept_gap)?;
        starts.insert(watermark.0, start);
    }
    Ok((Arc::new(topic_folder), starts))
}

//! Mistake that a test may switch on, to check that an audit detects it: the sink resumes at its
//! consumer group's committed offsets instead of those in its files.

use vintage_bus::{Bus, ConsumerLimits, Event};
use vintage_control::{Offset, Partition};
use vintage_faults::mistake;

use super::{
    Blocked, Sink, SinkHandle, SinkOptions, SinkSource, SinkTask, Start, reads, recovered,
};
use crate::error::Result;

/// Returns true if the sink is to resume at its consumer group's committed offsets.
pub(super) fn trusts_its_group(options: &SinkOptions) -> bool {
    options.group.is_none() && mistake("mistake.group_offset")
}

/// Starts a sink at the group's committed offsets, even if its files end elsewhere.
pub(super) async fn start(options: SinkOptions, bus: &Bus) -> Result<(SinkHandle, SinkTask)> {
    let (client, topic) = (options.client_id.clone(), options.topic.clone());
    let watermarks = bus.watermarks(&topic).await?;
    let mut blocked = Blocked::new();
    let (topic_folder, mut starts) = recovered(&options, &watermarks, &mut blocked).await?;
    for (partition, committed) in bus.group_offsets(&client, &topic).await? {
        starts.insert(partition, Start::at(committed));
    }
    let limits = ConsumerLimits::default();
    let source = bus.growing_consumer(&client, &topic, reads(&starts), limits)?;
    Ok(Sink::spawn(
        options,
        topic_folder,
        Hasty(source),
        starts,
        blocked,
    ))
}

/// Source that commits offsets as records arrive, instead of when their file is durable.
struct Hasty<S>(S);

impl<S: SinkSource> SinkSource for Hasty<S> {
    async fn next(&mut self) -> Result<Option<Event>> {
        let event = self.0.next().await?;
        if let Some(Event::Record(record)) = &event {
            self.0.archived(record.partition, record.offset.next());
        }
        Ok(event)
    }

    fn archived(&self, _partition: Partition, _next: Offset) {}
}

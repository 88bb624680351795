//! A sink as it must not be: a test orders it, to see that an audit finds what comes of it.

use vintage_bus::{Bus, ConsumerLimits, Event};
use vintage_control::{Offset, Partition};
use vintage_faults::mistake;

use super::{Blocked, Sink, SinkHandle, SinkOptions, SinkTask, Source, Start, reads, recovered};
use crate::Result;

/// Whether it goes on where its consumer group stands.
pub(super) fn trusts_its_group(options: &SinkOptions) -> bool {
    options.group.is_none() && mistake("mistake.group_offset")
}

/// Archives from where the group stands, whatever the files say.
pub(super) async fn start(options: SinkOptions, bus: &Bus) -> Result<(SinkHandle, SinkTask)> {
    let (client, topic) = (options.client_id.clone(), options.topic.clone());
    let watermarks = bus.watermarks(&topic).await?;
    let mut blocked = Blocked::new();
    let (home, mut starts) = recovered(&options, &watermarks, &mut blocked).await?;
    for (partition, told) in bus.group_offsets(&client, &topic).await? {
        starts.insert(partition, Start::at(told));
    }
    let limits = ConsumerLimits::default();
    let source = bus.growing_consumer(&client, &topic, reads(&starts), limits)?;
    Ok(Sink::spawn(options, home, Hasty(source), starts, blocked))
}

/// Tells the group of records as they come, and of no file.
struct Hasty<S>(S);

impl<S: Source> Source for Hasty<S> {
    async fn next(&mut self) -> Result<Option<Event>> {
        let event = self.0.next().await?;
        if let Some(Event::Record(record)) = &event {
            self.0.archived(record.partition, record.offset.next());
        }
        Ok(event)
    }

    fn archived(&self, _partition: Partition, _next: Offset) {}
}

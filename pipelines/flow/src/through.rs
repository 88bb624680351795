//! Reading of a topic from its first record to its end at the moment of the call.

use std::collections::BTreeMap;

use vintage_bus::{Bus, Record, Snapshot};
use vintage_control::{Offset, Partition};

use crate::{Result, inputs::PATIENCE};

/// Outcome of reading a topic to its end.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Low and high watermarks of each partition when reading began; empty if the topic does not
    /// exist.
    pub(crate) marks: Vec<(Partition, Offset, Offset)>,
    /// First missing offset of each partition that delivered nothing for [`PATIENCE`] before its
    /// end, which means that the broker is gone.
    pub(crate) silent: BTreeMap<Partition, Offset>,
}

/// Calls `each` with every record of a topic up to its end at the time of the call.
pub(crate) async fn through(
    bus: &Bus,
    topic: &str,
    client: &str,
    mut each: impl FnMut(&Record),
) -> Result<Read> {
    let from = |_, low, _| Some(low);
    let mut reading = match bus.snapshot(client, topic, from).await {
        Ok(reading) => reading,
        Err(vintage_bus::Error::NoSuchTopic { .. }) => return Ok(Read::default()),
        Err(error) => return Err(error.into()),
    };
    while let Some(record) = next(&mut reading).await? {
        each(&record);
    }
    Ok(Read {
        marks: reading.marks().to_vec(),
        silent: reading.unread(),
    })
}

/// Returns the next record; `None` at the end, or if nothing arrives for [`PATIENCE`].
pub(crate) async fn next(reading: &mut Snapshot) -> Result<Option<Record>> {
    match tokio::time::timeout(PATIENCE, reading.next()).await {
        Ok(next) => Ok(next?),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use vintage_bus::{Embedded, TopicTable};
    use vintage_control::{Offset, Partition, Topics};

    use super::through;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_stands_in_a_topic_is_told() {
        let topics = Topics {
            namespace: "test".parse().unwrap(),
            run: "through".parse().unwrap(),
        };
        let specs = TopicTable::builtin().specs(&topics, 2, 1);
        let broker = Embedded::start(&specs).await.unwrap();
        let (bus, topic) = (broker.bus(), topics.rollouts());
        let producer = bus.producer("writer").unwrap();
        for value in ["a", "b", "c"] {
            let sent = producer.publish(&topic, b"key", Vec::new(), Bytes::from(value));
            sent.await.unwrap();
        }
        let mut values = Vec::new();
        let read = through(&bus, &topic, "whole", |record| {
            values.extend(record.payload.clone());
        });
        let read = read.await.unwrap();
        assert_eq!(values, ["a", "b", "c"]);
        let ends: Vec<_> = read
            .marks
            .iter()
            .map(|(_, low, high)| (*low, *high))
            .collect();
        assert!(ends.contains(&(Offset(0), Offset(3))), "{ends:?}");
        assert!(ends.contains(&(Offset(0), Offset(0))), "{ends:?}");
        assert_eq!(read.marks[1].0, Partition(1));
        assert!(read.silent.is_empty());
    }
}

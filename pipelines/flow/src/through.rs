//! A topic from its first record to where it ends now.

use std::{collections::BTreeMap, time::Duration};

use vintage_bus::{Bus, Consumer, ConsumerLimits, Event, Record};
use vintage_control::{Offset, Partition};

use crate::{Result, inputs::PATIENCE};

/// What was read of a topic.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Low and high marks when it began; none if there is no such topic.
    pub(crate) marks: Vec<(Partition, Offset, Offset)>,
    /// Partitions of which nothing came for [`PATIENCE`] before their end, with the first offset
    /// that did not come: the broker is gone, or no records stand there, as where another
    /// program's transaction ended.
    pub(crate) silent: BTreeMap<Partition, Offset>,
}

/// Tells every record of a topic that stands before where it ends now.
pub(crate) async fn through(
    bus: &Bus,
    topic: &str,
    client: &str,
    each: impl FnMut(&Record),
) -> Result<Read> {
    let marks = match bus.watermarks(topic).await {
        Ok(marks) => marks,
        Err(vintage_bus::Error::NoSuchTopic { .. }) => return Ok(Read::default()),
        Err(error) => return Err(error.into()),
    };
    let filled = marks.iter().filter(|(_, low, high)| low < high);
    let open: BTreeMap<_, _> = filled.map(|&(p, low, high)| (p, (low, high))).collect();
    let mut silent = BTreeMap::new();
    if !open.is_empty() {
        let start = open.iter().map(|(p, (low, _))| (*p, *low)).collect();
        let records = bus.consumer(client, topic, start, ConsumerLimits::default())?;
        silent = read_to(records, open, PATIENCE, each).await?;
    }
    Ok(Read { marks, silent })
}

/// Reads partitions from their next offset to before their end; gives back what did not come.
async fn read_to(
    mut records: Consumer,
    mut open: BTreeMap<Partition, (Offset, Offset)>,
    patience: Duration,
    mut each: impl FnMut(&Record),
) -> Result<BTreeMap<Partition, Offset>> {
    while !open.is_empty() {
        let Ok(event) = tokio::time::timeout(patience, records.next()).await else {
            break;
        };
        let Some(event) = event? else { break };
        let Event::Record(record) = event else {
            continue;
        };
        let Some((next, end)) = open.get_mut(&record.partition) else {
            continue; // it came after this began
        };
        *next = record.offset.next();
        if record.offset < *end {
            each(&record);
        }
        if *next >= *end {
            open.remove(&record.partition);
        }
    }
    records.close();
    Ok(open.into_iter().map(|(p, (next, _))| (p, next)).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use bytes::Bytes;
    use vintage_bus::{ConsumerLimits, Embedded, TopicTable};
    use vintage_control::{Offset, Partition, Topics};

    use super::{read_to, through};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_come_is_told() {
        let topics = Topics {
            namespace: "test".parse().unwrap(),
            run: "through".parse().unwrap(),
        };
        let specs = TopicTable::builtin().specs(&topics, 1, 1);
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
        assert_eq!(read.marks, [(Partition(0), Offset(0), Offset(3))]);
        assert!(read.silent.is_empty());

        // An end that no record reaches.
        let start = vec![(Partition(0), Offset(0))];
        let records = bus.consumer("part", &topic, start, ConsumerLimits::default());
        let open = BTreeMap::from([(Partition(0), (Offset(0), Offset(5)))]);
        let mut came = 0;
        let patience = Duration::from_millis(500);
        let silent = read_to(records.unwrap(), open, patience, |_| came += 1);
        let silent = silent.await.unwrap();
        // A loaded machine may be silent before all three came: then it says that.
        assert_eq!(silent, BTreeMap::from([(Partition(0), Offset(came))]));
    }
}

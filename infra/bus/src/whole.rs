//! A topic from its first record to where it ends now.

use std::{collections::BTreeMap, time::Duration};

use vintage_control::{Offset, Partition};

use crate::{
    bus::Bus,
    error::{Error, Result},
    record::Record,
};

/// Time without a record after which a broker counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Extent of what [`Bus::read_whole`] read of a topic.
#[derive(Debug, Default)]
pub struct WholeTopic {
    /// Low and high marks of every partition when reading began; none if there is no such topic.
    pub marks: Vec<(Partition, Offset, Offset)>,
    /// Partitions of which nothing came for 10 s before their end, with the first offset that did
    /// not come: the broker is gone.
    pub silent: BTreeMap<Partition, Offset>,
}

impl Bus {
    /// Reads a topic from its first record to where it ends now, and calls `each` with every
    /// record.
    ///
    /// # Errors
    /// Those of [`Bus::snapshot`]; a topic that does not exist is read as empty.
    pub async fn read_whole(
        &self,
        topic: &str,
        client_id: &str,
        mut each: impl FnMut(&Record),
    ) -> Result<WholeTopic> {
        let from = |_, low, _| Some(low);
        let mut reading = match self.snapshot(client_id, topic, from).await {
            Ok(reading) => reading,
            Err(Error::NoSuchTopic { .. }) => return Ok(WholeTopic::default()),
            Err(error) => return Err(error),
        };
        loop {
            match reading.next_within(PATIENCE).await {
                Ok(Some(record)) => each(&record),
                Ok(None) | Err(Error::Silent { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(WholeTopic {
            marks: reading.marks().to_vec(),
            silent: reading.unread(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use vintage_control::{Offset, Partition, Topics};

    use crate::{embedded::Embedded, topics::TopicTable};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_records_of_a_topic_are_read_with_its_marks() {
        let topics = Topics {
            namespace: "test".parse().unwrap(),
            run: "whole".parse().unwrap(),
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
        let read = bus.read_whole(&topic, "whole", |record| {
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

//! Rollouts that a log holds now and no archive yet: the end of `vintage.read(…, live=True)`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use arrow::{array::RecordBatch, compute::concat_batches};
use pyo3::prelude::*;
use vintage_archive::Reader;
use vintage_bus::{Bus, Record, Snapshot};
use vintage_control::{Incarnation, Offset, Partition, RecordId};
use vintage_flow::{archive_in, broker::Broker, config_file, open_store};
use vintage_trajectory::{Headers, Rows, read_record};

use crate::{
    fault::{Error, raised, usage},
    read::{archive, arrow, placed},
};

/// Time without any record after which the broker is considered gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Scheme of a source that is a topic.
const SCHEME: &str = "kafka://";

/// Reader of what a topic held when it was opened.
pub(crate) struct Live {
    snapshot: Snapshot,
    /// Incarnation of the topic that the archive has; 0 for a topic that is read alone.
    incarnation: Incarnation,
    /// Kept so that a local broker stays up.
    broker: Option<Broker>,
    /// Messages of groups that are not whole yet, by producer and number, then part.
    parts: BTreeMap<(String, u64), BTreeMap<u32, RecordBatch>>,
    /// Groups that were given: a second copy must not become a group of its own.
    given: BTreeSet<(String, u64)>,
}

impl Live {
    /// Opens a topic, given as `kafka://HOST:PORT/TOPIC`; `None` if the source is no such address.
    pub(crate) async fn of_topic(source: &str) -> PyResult<Option<Self>> {
        let Some(rest) = source.strip_prefix(SCHEME) else {
            return Ok(None);
        };
        let Some((address, topic)) = rest.split_once('/').filter(|(_, topic)| !topic.is_empty())
        else {
            return Err(usage(format!(
                "{source}: a topic is kafka://HOST:PORT/TOPIC, such as \
                 kafka://localhost:9092/vintage.a.rollouts.v1"
            )));
        };
        let bus = Bus::connect(address, &BTreeMap::new()).map_err(|error| raised(&error.into()))?;
        Self::open(&bus, None, topic, Incarnation(0), &BTreeMap::new())
            .await
            .map(Some)
    }

    /// Opens the log of a run behind what is archived of it; returns a reader of the archive too.
    pub(crate) async fn of_run(folder: &Path) -> PyResult<(Reader, Self)> {
        let config =
            vintage_config::read(&config_file(folder)).map_err(|error| raised(&error.into()))?;
        if config.broker == "embedded" {
            return Err(usage(format!(
                "{}: the run has the embedded broker, which nothing outside its process can reach: \
                 read its archive, without live",
                folder.display()
            )));
        }
        let topic = config.topic_names().rollouts();
        let store = open_store(folder).map_err(|error| raised(&error))?;
        let reader = Reader::new(archive_in(&store), &topic);
        let mut from = BTreeMap::new();
        let begun = reader
            .incarnations()
            .await
            .map_err(|error| archive(&error))?;
        let newest = begun.last().copied();
        if let Some(incarnation) = newest {
            let partitions = reader.partitions(incarnation).await;
            for partition in partitions.map_err(|error| archive(&error))? {
                let next = reader.next_offset(incarnation, partition).await;
                from.insert(partition, next.map_err(|error| archive(&error))?);
            }
        }
        let broker = Broker::open(&config, Some(folder)).await;
        let broker = broker.map_err(|error| raised(&error))?;
        let bus = broker.bus().clone();
        let incarnation = newest.unwrap_or(Incarnation(0));
        let live = Self::open(&bus, Some(broker), &topic, incarnation, &from).await?;
        Ok((reader, live))
    }

    async fn open(
        bus: &Bus,
        broker: Option<Broker>,
        topic: &str,
        incarnation: Incarnation,
        from: &BTreeMap<Partition, Offset>,
    ) -> PyResult<Self> {
        let failed = |error: vintage_bus::Error| raised(&error.into());
        for (partition, low, _) in bus.watermarks(topic).await.map_err(failed)? {
            if let Some(&next) = from.get(&partition).filter(|next| **next < low) {
                return Err(Error::new_err(format!(
                    "partition {partition} of {topic} begins at offset {low}, and the archive ends \
                     before {next}: what was between is in neither"
                )));
            }
        }
        let first = |partition: Partition, low: Offset, _: Offset| {
            Some(from.get(&partition).copied().unwrap_or(low))
        };
        let snapshot = bus.snapshot("read", topic, first).await.map_err(failed)?;
        Ok(Self {
            snapshot,
            incarnation,
            broker,
            parts: BTreeMap::new(),
            given: BTreeSet::new(),
        })
    }

    /// Returns the rows of the next whole group, except records before `archived` of their
    /// partition; `None` at the end.
    pub(crate) async fn next(
        &mut self,
        archived: &BTreeMap<Partition, Offset>,
    ) -> PyResult<Option<RecordBatch>> {
        loop {
            let record = self.snapshot.next_within(SILENCE).await;
            let Some(record) = record.map_err(|error| raised(&error.into()))? else {
                if let Some(broker) = self.broker.take() {
                    broker.close().await.map_err(|error| raised(&error))?;
                }
                return Ok(None);
            };
            let before = archived.get(&record.partition);
            if before.is_some_and(|before| record.offset < *before) {
                continue;
            }
            let pairs = record.headers.iter();
            let pairs = pairs.map(|header| (header.key.as_str(), header.value.as_deref()));
            // Records that cannot be read are left out here as in an archive.
            if let Ok((headers, rows)) = read_record(pairs, record.payload.as_ref())
                && let Some(group) = self.whole(&record, &headers, &rows)?
            {
                return Ok(Some(group));
            }
        }
    }

    /// Adds a message; returns its group if that is whole now.
    fn whole(
        &mut self,
        record: &Record,
        headers: &Headers,
        rows: &Rows,
    ) -> PyResult<Option<RecordBatch>> {
        let id = RecordId {
            incarnation: self.incarnation,
            partition: record.partition,
            offset: record.offset,
        };
        let key = (headers.producer.clone(), headers.producer_seq);
        if self.given.contains(&key) {
            return Ok(None);
        }
        let (part, of) = headers.part;
        let parts = self.parts.entry(key.clone()).or_default();
        parts.insert(part, placed(rows, headers, id, record.timestamp_ms)?);
        if (parts.len() as u64) < u64::from(of) {
            return Ok(None);
        }
        let parts: Vec<_> = self
            .parts
            .remove(&key)
            .unwrap_or_default()
            .into_values()
            .collect();
        self.given.insert(key);
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let group = concat_batches(&first.schema(), &parts).map_err(|error| arrow(&error))?;
        Ok(Some(group))
    }
}

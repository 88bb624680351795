//! Baseline of `vintage bench transport`: librdkafka's clients with this crate's settings and none
//! of its code around them. Payloads are opaque bytes. Both calls block.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use crate::{Bus, ConsumerLimits, Error, Result};

/// Longest single poll of a client between checks for completion.
const POLL: Duration = Duration::from_millis(100);

/// Record whose contents are not interpreted.
#[derive(Debug, Clone)]
pub struct Opaque {
    /// Key of the record.
    pub key: Vec<u8>,
    /// Headers of the record: name and value of each.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Value of the record.
    pub payload: Vec<u8>,
}

/// Delivery reports: number of acknowledged records and the first failure.
#[derive(Default)]
struct Reports {
    acknowledged: AtomicUsize,
    failed: Mutex<Option<KafkaError>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.clone());
            }
        }
    }
}

impl Bus {
    /// Sends `count` records, cycling through `records` and round-robin over `partitions`, and
    /// waits for all acknowledgements.
    pub fn produce_bare(
        &self,
        topic: &str,
        partitions: i32,
        records: &[Opaque],
        count: usize,
    ) -> Result<()> {
        let action = format!("sending to topic {topic}");
        let refuse = |error: &KafkaError| self.refused(&action, error, self.timeout());
        let producer: BaseProducer<Reports> = self
            .settings()
            .producer("bare")
            .create_with_context(Reports::default())
            .map_err(|error| refuse(&error))?;
        for (i, record) in records.iter().cycle().take(count).enumerate() {
            let headers =
                record
                    .headers
                    .iter()
                    .fold(OwnedHeaders::new(), |headers, (key, value)| {
                        let value = Some(value);
                        headers.insert(Header { key, value })
                    });
            let mut message = BaseRecord::to(topic)
                .partition(i as i32 % partitions)
                .key(&record.key)
                .headers(headers)
                .payload(&record.payload);
            while let Err((error, returned)) = producer.send(message) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(refuse(&error));
                }
                message = returned;
                producer.poll(POLL);
            }
            producer.poll(Duration::ZERO);
        }
        let reports = producer.context();
        while reports.acknowledged.load(Ordering::Relaxed) < count {
            let failed = reports
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = &*failed {
                return Err(refuse(error));
            }
            drop(failed);
            producer.poll(POLL);
        }
        Ok(())
    }

    /// Reads `count` records from the start of a topic and returns the total size of their payloads
    /// in bytes.
    pub fn consume_bare(&self, topic: &str, partitions: i32, count: usize) -> Result<u64> {
        let action = format!("reading topic {topic}");
        let refuse = |error: &KafkaError| self.refused(&action, error, self.timeout());
        let limit = ConsumerLimits::default().max_bytes;
        let consumer: BaseConsumer = self
            .settings()
            .consumer("bare", "vintage-unused-bare", limit)
            .set("enable.partition.eof", "false")
            .create()
            .map_err(|error| refuse(&error))?;
        let mut start = TopicPartitionList::new();
        for partition in 0..partitions {
            start
                .add_partition_offset(topic, partition, Offset::Beginning)
                .map_err(|error| refuse(&error))?;
        }
        consumer.assign(&start).map_err(|error| refuse(&error))?;
        let (mut bytes, mut left) = (0, count);
        while left > 0 {
            let polled = consumer
                .poll(self.timeout())
                .ok_or_else(|| Error::Unreachable {
                    bootstrap: self.bootstrap().to_owned(),
                    waited: self.timeout(),
                    detail: format!("{left} records of topic {topic} did not come"),
                })?;
            let message = polled.map_err(|error| refuse(&error))?;
            bytes += message.payload_len() as u64;
            left -= 1;
        }
        Ok(bytes)
    }
}

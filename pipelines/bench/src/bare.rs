//! Baseline of `vintage bench transport`: librdkafka's clients with this project's settings and
//! none of its code around them. Payloads are opaque bytes. Both calls block.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use vintage_bus::{Bus, ConsumerLimits, Error, Result};

/// Longest wait in one poll of the producer for acknowledgements.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait for the next record to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Record to send, whose content is not interpreted.
#[derive(Debug, Clone)]
pub(crate) struct Opaque {
    /// Key of the record.
    pub(crate) key: Vec<u8>,
    /// Headers of the record.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Value of the record.
    pub(crate) payload: Vec<u8>,
}

/// Delivery reports: the number of acknowledged records, and the first failure.
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

/// Sends `count` records, cycling through `records`, and waits for all acknowledgements.
pub(crate) fn produce(
    bus: &Bus,
    topic: &str,
    partitions: i32,
    records: &[Opaque],
    count: usize,
) -> Result<()> {
    let action = format!("sending to topic {topic}");
    let refuse = |error: &KafkaError| refused(bus, &action, error);
    let options: ClientConfig = bus.producer_options("bare").into_iter().collect();
    let producer: BaseProducer<Reports> = options
        .create_with_context(Reports::default())
        .map_err(|error| refuse(&error))?;
    for (i, record) in records.iter().cycle().take(count).enumerate() {
        let headers = record
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

/// Reads `count` records from the start of a topic and returns the size of their payloads, in
/// bytes.
pub(crate) fn consume(bus: &Bus, topic: &str, partitions: i32, count: usize) -> Result<u64> {
    let action = format!("reading topic {topic}");
    let refuse = |error: &KafkaError| refused(bus, &action, error);
    let limits = ConsumerLimits::default();
    let options = bus.consumer_options("bare", "vintage-unused-bare", limits);
    let consumer: BaseConsumer = ClientConfig::from_iter(options)
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
        let polled = consumer.poll(PATIENCE).ok_or_else(|| Error::Unreachable {
            bootstrap: bus.bootstrap().to_owned(),
            waited: PATIENCE,
            reason: format!("{left} records of topic {topic} did not come"),
        })?;
        let message = polled.map_err(|error| refuse(&error))?;
        bytes += message.payload_len() as u64;
        left -= 1;
    }
    Ok(bytes)
}

fn refused(bus: &Bus, action: &str, error: &KafkaError) -> Error {
    Error::Request {
        action: action.to_owned(),
        bootstrap: bus.bootstrap().to_owned(),
        reason: error
            .rdkafka_error_code()
            .map_or_else(|| error.to_string(), |code| code.to_string()),
        retryable: false,
    }
}

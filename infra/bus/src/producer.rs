use std::{
    collections::{BTreeMap, HashMap},
    future::Future as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{self, DeliveryResult, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use vintage_control::{Offset, Partition};

use crate::{
    bus::{Bus, owned},
    client::Log,
    error::{Error, Result, is_connectivity, is_denial, reason_of},
    gate::{Gate, Reservation},
    partition,
    record::{Delivery, Header, Outgoing},
    settings::IN_FLIGHT_BYTES,
};

impl Bus {
    /// Creates a producer. `client_id` identifies it in the brokers' logs and in errors.
    pub fn producer(&self, client_id: &str) -> Result<Producer> {
        let config = self.settings().producer(client_id);
        Producer::new(self.clone(), client_id, &config)
    }

    /// Creates a producer that leaves no gap: after a record that cannot be appended, no later
    /// record is appended. It waits without limit for a broker that is down.
    pub fn gapless_producer(&self, client_id: &str) -> Result<Producer> {
        let config = self.settings().gapless_producer(client_id);
        Producer::new(self.clone(), client_id, &config)
    }

    /// Returns the librdkafka settings of a producer, passwords included, for another kind of
    /// client that must behave alike.
    pub fn producer_options(&self, client_id: &str) -> BTreeMap<String, String> {
        owned(&self.settings().producer(client_id))
    }
}

/// Longest sleep of the polling thread before it checks whether to end.
const POLL: Duration = Duration::from_millis(100);

/// Producer of records. Cheap to clone; clones share one librdkafka client.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    bus: Bus,
    client: String,
    native: Arc<BaseProducer<Context>>,
    gate: Option<Arc<Gate>>,
    /// Permits for bytes in flight (published and not yet acknowledged), one per byte.
    budget: Arc<Semaphore>,
    /// Queue of waiting callers per partition of each topic. Callers enter in call order, which is
    /// the order in which their records reach librdkafka.
    partition_locks: Mutex<HashMap<String, Arc<[PartitionLock]>>>,
    room: Arc<Notify>,
    stop: Arc<AtomicBool>,
}

type PartitionLock = Arc<Mutex<()>>;

struct Context {
    log: Log,
    room: Arc<Notify>,
}

/// Context of a record in flight, which librdkafka carries to the delivery report.
struct InFlight {
    reply: oneshot::Sender<Result<Offset, KafkaError>>,
    reservation: Option<Reservation>,
    _budget: OwnedSemaphorePermit,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.log.log(level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        let InFlight {
            reply,
            reservation,
            _budget: budget,
        } = *in_flight;
        let result = match result {
            Ok(message) => {
                let offset = Offset(message.offset());
                if let Some(reservation) = reservation {
                    reservation.acknowledged(offset);
                }
                Ok(offset)
            }
            Err((error, _)) => Err(error.clone()),
        };
        drop(budget);
        self.room.notify_waiters();
        if reply.send(result).is_err() {
            tracing::debug!("the caller of a publish did not wait for it");
        }
    }
}

impl Producer {
    pub(crate) fn new(bus: Bus, client_id: &str, config: &ClientConfig) -> Result<Self> {
        let room = Arc::new(Notify::new());
        let context = Context {
            log: Log::new(client_id, bus.is_embedded()),
            room: Arc::clone(&room),
        };
        let refuse = |reason: String| Error::Client {
            client: client_id.to_owned(),
            reason,
        };
        let native: BaseProducer<Context> = config
            .create_with_context(context)
            .map_err(|error| refuse(error.to_string()))?;
        let native = Arc::new(native);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, ends) = (Arc::clone(&native), Arc::clone(&stop));
        std::thread::Builder::new()
            .name("producer".into())
            .spawn(move || {
                while !ends.load(Ordering::Acquire) {
                    polled.poll(POLL);
                }
                // The last owner destroys the client, which blocks; that is better done on this
                // thread.
            })
            .map_err(|error| refuse(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                gate: bus.gate(),
                bus,
                client: client_id.to_owned(),
                native,
                budget: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)),
                partition_locks: Mutex::default(),
                room,
                stop,
            }),
        })
    }

    /// Appends a record and returns its partition and offset once all in-sync replicas hold it. The
    /// partition follows from the key. Waits, rather than fails, while too much is in flight or
    /// while a reader of the embedded broker lags. Records of one partition are appended in the
    /// order of the calls (of the futures' first polls).
    ///
    /// If the future is dropped, the record may or may not be appended.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::NoSuchTopic`]; [`Error::Denied`]; [`Error::Publish`] if the
    /// record was not acknowledged in time (five minutes; setting `message.timeout.ms`);
    /// [`Error::ProducerFatal`], after which this producer can publish nothing more.
    pub async fn publish(
        &self,
        topic: &str,
        key: &[u8],
        headers: Vec<(String, Vec<u8>)>,
        payload: impl Into<Option<Bytes>>,
    ) -> Result<Delivery> {
        let header = |(key, value): (String, Vec<u8>)| Header {
            key,
            value: Some(value.into()),
        };
        let record = Outgoing {
            partition: None,
            timestamp_ms: None,
            key: Some(Bytes::copy_from_slice(key)),
            headers: headers.into_iter().map(header).collect(),
            payload: payload.into(),
        };
        self.append(topic, record).await
    }

    /// Appends a record as [`Producer::publish`] does, with an optional partition and timestamp,
    /// and with null keys and values allowed.
    ///
    /// # Errors
    /// Those of [`Producer::publish`], and [`Error::NoSuchPartition`].
    pub async fn append(&self, topic: &str, record: Outgoing) -> Result<Delivery> {
        let inner = &*self.inner;
        let bytes = record.bytes();
        let limit = inner.bus.settings().max_message_bytes();
        if bytes > limit {
            return Err(Error::TooLarge {
                topic: topic.to_owned(),
                bytes,
                limit,
            });
        }

        let (partition, turn) = inner.enter(topic, &record).await?;
        let reservation = match &inner.gate {
            Some(gate) => Some(gate.reserve(topic, partition, bytes).await),
            None => None,
        };
        let permits = bytes.min(IN_FLIGHT_BYTES) as u32;
        let budget = Arc::clone(&inner.budget)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| Error::Stopped {
                what: "a producer's budget",
            })?;
        let (reply, replied) = oneshot::channel();
        let in_flight = Box::new(InFlight {
            reply,
            reservation,
            _budget: budget,
        });
        inner.enqueue(topic, partition, &record, in_flight).await?;
        drop(turn);

        let offset = replied
            .await
            .map_err(|_| Error::Stopped {
                what: "a producer's delivery reports",
            })?
            .map_err(|error| inner.failed(topic, partition, bytes, &error))?;
        Ok(Delivery { partition, offset })
    }

    /// Waits until everything published so far is acknowledged or has failed. Failures are reported
    /// to the callers of the publishes, not here.
    pub async fn flush(&self) -> Result<()> {
        let all = self.inner.budget.acquire_many(IN_FLIGHT_BYTES as u32).await;
        all.map(drop).map_err(|_| Error::Stopped {
            what: "a producer's budget",
        })
    }
}

impl Inner {
    /// Finds the partition of a record and waits for this caller's turn in its queue.
    async fn enter(
        &self,
        topic: &str,
        record: &Outgoing,
    ) -> Result<(Partition, tokio::sync::OwnedMutexGuard<()>)> {
        let mut all = self.partition_locks.lock().await;
        let partition_locks = if let Some(partition_locks) = all.get(topic) {
            Arc::clone(partition_locks)
        } else {
            let partitions = self.bus.partitions(topic).await?;
            let partition_locks: Arc<[PartitionLock]> = partitions
                .iter()
                .map(|_| PartitionLock::default())
                .collect();
            all.insert(topic.to_owned(), Arc::clone(&partition_locks));
            partition_locks
        };
        let partition = record.partition.unwrap_or_else(|| {
            partition::of_key(
                record.key.as_deref().unwrap_or_default(),
                partition_locks.len(),
            )
        });
        let partition_lock = usize::try_from(partition.0)
            .ok()
            .and_then(|at| partition_locks.get(at));
        let partition_lock = partition_lock.ok_or_else(|| Error::NoSuchPartition {
            topic: topic.to_owned(),
            partition,
            partitions: partition_locks.len(),
        })?;
        let mut turn = std::pin::pin!(Arc::clone(partition_lock).lock_owned());
        // Takes a place in the partition's queue before the next caller may enter.
        let first = std::future::poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await;
        drop(all);
        let turn = match first {
            Poll::Ready(turn) => turn,
            Poll::Pending => turn.await,
        };
        Ok((partition, turn))
    }

    async fn enqueue(
        &self,
        topic: &str,
        partition: Partition,
        record: &Outgoing,
        in_flight: Box<InFlight>,
    ) -> Result<()> {
        let mut in_flight = in_flight;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Enabled before the attempt; otherwise a delivery in between would be missed.
            room.as_mut().enable();
            match self.send(topic, partition, record, in_flight) {
                Ok(()) => return Ok(()),
                Err((error, returned)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !full || self.native.in_flight_count() == 0 {
                        return Err(self.failed(topic, partition, record.bytes(), &error));
                    }
                    in_flight = returned;
                }
            }
            room.await;
        }
    }

    fn send(
        &self,
        topic: &str,
        partition: Partition,
        record: &Outgoing,
        in_flight: Box<InFlight>,
    ) -> Result<(), (KafkaError, Box<InFlight>)> {
        let headers = record.headers.iter().fold(
            OwnedHeaders::new_with_capacity(record.headers.len()),
            |headers, header| {
                headers.insert(message::Header {
                    key: &header.key,
                    value: header.value.as_deref(),
                })
            },
        );
        let mut outgoing = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, in_flight)
            .partition(partition.0)
            .headers(headers);
        outgoing.key = record.key.as_deref();
        outgoing.timestamp = record.timestamp_ms;
        outgoing.payload = record.payload.as_deref();
        self.native
            .send(outgoing)
            .map_err(|(error, record)| (error, record.delivery_opaque))
    }

    fn failed(&self, topic: &str, partition: Partition, bytes: usize, error: &KafkaError) -> Error {
        if let Some((code, reason)) = self.native.client().fatal_error() {
            if is_denial(code) {
                return self
                    .bus
                    .denied(format!("publishing to topic {topic}"), code);
            }
            return Error::ProducerFatal {
                client: self.client.clone(),
                reason,
            };
        }
        let code = error.rdkafka_error_code();
        if let Some(code) = code.filter(|code| is_denial(*code)) {
            return self
                .bus
                .denied(format!("publishing to topic {topic}"), code);
        }
        if let Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) =
            code
        {
            let limit = self.bus.settings().max_message_bytes();
            return Error::TooLarge {
                topic: topic.to_owned(),
                bytes,
                limit,
            };
        }
        if let Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) =
            code
        {
            let bootstrap = self.bus.bootstrap().to_owned();
            return Error::NoSuchTopic {
                topic: topic.to_owned(),
                bootstrap,
            };
        }
        Error::Publish {
            topic: topic.to_owned(),
            partition,
            bootstrap: self.bus.bootstrap().to_owned(),
            reason: reason_of(error),
            retryable: code.is_some_and(is_connectivity),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

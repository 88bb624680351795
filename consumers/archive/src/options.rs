//! Settings of a sink.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use vintage_control::Incarnation;
use vintage_store::Store;

use crate::{columns::Codec, roll::SinkLimits};

/// Settings of a sink: the topic that it archives, the destination and the limits.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Root of the archive.
    pub store: Store,
    /// Topic to archive.
    pub topic: String,
    /// Incarnation of the topic; a recreated topic needs another one.
    pub incarnation: Incarnation,
    /// Name of the consumer in the brokers' logs and in errors.
    pub client_id: String,
    /// Limits at which files are closed, and on the memory that is used.
    pub limits: SinkLimits,
    /// Compression of the files.
    pub codec: Codec,
    /// Longest time to wait out a trouble of the store that may pass (no room, no permission, no
    /// network) before it ends the sink. The consumer continues to poll meanwhile.
    pub patience: Duration,
    /// True to continue after records that retention deleted before they were archived. Each such
    /// gap is noted in the footer of the file that spans it.
    pub accept_gap: bool,
    /// Consumer group whose members share the partitions; without one, a sink archives all of them.
    pub group: Option<String>,
    /// Token that ends the sink when it is cancelled; records consumed by then are written first.
    pub cancel: CancellationToken,
}

/// Default of [`SinkOptions::patience`], ten minutes: a full disk may be cleared meanwhile, but a
/// wrong mount would never recover.
const PATIENCE: Duration = Duration::from_secs(600);

impl SinkOptions {
    /// Returns options with the default limits, codec and patience.
    pub fn new(store: Store, topic: &str, incarnation: Incarnation) -> Self {
        Self {
            store,
            topic: topic.to_owned(),
            incarnation,
            client_id: "vintage-archive".to_owned(),
            limits: SinkLimits::default(),
            codec: Codec::default(),
            patience: PATIENCE,
            accept_gap: false,
            group: None,
            cancel: CancellationToken::new(),
        }
    }
}

//! State of a producer as the granter sees it.

/// State of one producer, for displays.
#[derive(Debug, Clone, PartialEq)]
pub struct ProducerView {
    /// Id of the producer process.
    pub producer: String,
    /// Milliseconds since its last report.
    pub silent_ms: u64,
    /// Number of leases that it can hold at once; `None` before its first report to this lead.
    pub capacity: Option<u64>,
    /// Number of leases it holds whose groups are not in the log yet.
    pub held: u64,
    /// Number of groups that the learner read for its leases, since the granter started.
    pub filled: u64,
    /// True if it takes no more leases.
    pub leaving: bool,
    /// Reason for which it gets no leases.
    pub refused: Option<String>,
}

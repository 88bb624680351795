//! Statements of a process about itself, for its endpoints.

/// Statement of a process about itself. Every method is called on the listener's own thread, for
/// each request, so it must answer at once whatever the rest of the process does.
pub trait Status: Send + Sync {
    /// Returns what the process does, or as the error why it is stalled: the answer of `/healthz`.
    ///
    /// # Errors
    /// The reason for which the process is unhealthy and should be restarted.
    fn health(&self) -> Result<String, String>;

    /// Returns what the process does, or as the error what it still waits for: the answer of
    /// `/readyz`.
    ///
    /// # Errors
    /// The reason for which the process is not ready.
    fn readiness(&self) -> Result<String, String>;

    /// Returns the state of the process as JSON: the answer of `/live.json`.
    fn live(&self) -> String;

    /// Returns the live page as HTML, which reads `/live.json` from the same listener.
    fn page(&self) -> String;
}

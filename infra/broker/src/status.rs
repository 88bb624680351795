//! State of a local broker, as its folder and its processes tell.

use std::path::Path;

use serde::Serialize;

use crate::{
    claim::Turn, cluster::Cluster, error::Result, local::LocalKafka, options::LocalOptions,
};

/// Local broker that was started in a folder, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalStatus {
    /// Bootstrap addresses of its nodes (`host:port,…`).
    pub bootstrap: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of nodes whose process runs.
    pub running: usize,
    /// True if a live process needs the broker, which then cannot be stopped.
    pub in_use: bool,
    /// True if the broker stays up without users.
    pub kept: bool,
}

impl LocalStatus {
    /// Returns true if every node runs.
    pub fn is_up(&self) -> bool {
        self.running == self.nodes
    }
}

impl LocalKafka {
    /// Looks at the broker last started in `dir`; `None` if there was none. Starts and stops nothing.
    ///
    /// # Errors
    /// [`crate::Error::LocalInUse`] if another process takes too long to start or stop it.
    pub async fn status_of(dir: &Path) -> Result<Option<LocalStatus>> {
        let Some(cluster) = Cluster::load(dir)? else {
            return Ok(None);
        };
        let options = LocalOptions::default();
        let turn = Turn::take(cluster.dir(), options.ready_within).await?;
        let mut local = Self::handle(cluster, options);
        Ok(Some(LocalStatus {
            bootstrap: local.bootstrap().to_owned(),
            nodes: local.size(),
            running: local.running(),
            in_use: turn.is_used()?,
            kept: turn.is_kept(),
        }))
    }
}

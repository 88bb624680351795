//! Creating an object while the disk or the server is in a trouble that may pass.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vintage_store::{Created, Store};

use crate::Result;

/// Tries at first follow soon: room may be made by what another process is about to delete.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// And later often enough that a sink is not idle for long once there is room again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How often a create met which trouble.
pub(crate) type Blocked = BTreeMap<&'static str, u64>;

/// Creates an object, again and again while its failure is a trouble of the store that may pass
/// (no room, no permission, no network) and until `patience` is over or `cancel` is cancelled.
///
/// Each try begins with the bytes: a file whose sync failed is never synced again.
pub(crate) async fn create(
    store: &Store,
    path: &str,
    bytes: &Bytes,
    (patience, cancel): (Duration, &CancellationToken),
    blocked: &mut Blocked,
) -> Result<Created> {
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = match store.create(path, bytes.clone()).await {
            Ok(created) => {
                if wait > FIRST_WAIT {
                    tracing::warn!(path, "the archive goes on: what blocked it has passed");
                }
                return Ok(created);
            }
            Err(error) => error,
        };
        let Some(trouble) = error.trouble() else {
            return Err(error.into());
        };
        *blocked.entry(trouble.as_str()).or_default() += 1;
        metrics::counter!("vintage_archive_blocked_total", "reason" => trouble.as_str())
            .increment(1);
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() || cancel.is_cancelled() {
            return Err(error.into());
        }
        let next = wait.min(left);
        tracing::warn!("the archive is blocked and tries again in {next:?}: {error}");
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = cancel.cancelled() => return Err(error.into()),
        }
        wait = (2 * wait).min(LONGEST_WAIT);
    }
}

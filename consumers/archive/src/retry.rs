//! Retries of store operations while the disk or the server has a trouble that may pass.

use std::{collections::BTreeMap, time::Duration};
use vintage_control::Metric;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// Wait before the first retry. It is short, because another process may be about to free space.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between retries, so that a sink resumes soon after the trouble has passed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Number of failed tries, by the store's trouble.
pub(crate) type Blocked = BTreeMap<&'static str, u64>;

/// Longest time to keep retrying, and the token that ends it early.
pub(crate) type Patience<'a> = (Duration, &'a CancellationToken);

/// Runs `work` on `what` until it succeeds, fails for good, or patience is over. It is retried
/// while its failure is a trouble of the store that may pass (no room, no permission, no network).
///
/// Each try writes all bytes again: a file whose sync failed is never synced again.
pub(crate) async fn on<T, W: Future<Output = Result<T>>>(
    what: &str,
    (patience, cancel): Patience<'_>,
    blocked: &mut Blocked,
    mut work: impl FnMut() -> W,
) -> Result<T> {
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = match work().await {
            Ok(done) => {
                if wait > FIRST_WAIT {
                    tracing::warn!(what, "the archive goes on: what blocked it has passed");
                }
                return Ok(done);
            }
            Err(error) => error,
        };
        let Error::Store(store) = &error else {
            return Err(error);
        };
        let Some(trouble) = store.trouble() else {
            return Err(error);
        };
        *blocked.entry(trouble.as_str()).or_default() += 1;
        metrics::counter!(Metric::ARCHIVE_BLOCKED.name, "reason" => trouble.as_str()).increment(1);
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() || cancel.is_cancelled() {
            return Err(error);
        }
        let next = wait.min(left);
        tracing::warn!("the archive is blocked and tries again in {next:?}: {error}");
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = cancel.cancelled() => return Err(error),
        }
        wait = (2 * wait).min(LONGEST_WAIT);
    }
}

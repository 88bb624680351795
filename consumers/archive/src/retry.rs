//! Retries of store operations while the disk or the server has a trouble that may pass.

use std::{collections::BTreeMap, time::Duration};
use vintage_control::Metric;

use tokio_util::sync::CancellationToken;
use vintage_store::{Store, WaitStep};

use crate::error::{Error, Result};

/// Number of failed tries, by the store's trouble.
pub(crate) type Blocked = BTreeMap<&'static str, u64>;

/// Longest time to keep retrying, the token that ends it early, and the store that is waited for.
pub(crate) type Patience<'a> = (Duration, &'a CancellationToken, &'a Store);

/// Runs `work` on `what` until it succeeds, fails for good, or patience is over. It is retried
/// while its failure is a trouble of the store that may pass (no room, no permission, no network).
///
/// Each try writes all bytes again: a file whose sync failed is never synced again.
pub(crate) async fn on<T, W: Future<Output = Result<T>>>(
    what: &str,
    (longest, cancel, store): Patience<'_>,
    blocked: &mut Blocked,
    work: impl FnMut() -> W,
) -> Result<T> {
    let patience = vintage_store::Patience {
        longest,
        cancel: cancel.clone(),
    };
    let trouble = |error: &Error| match error {
        Error::Store(store) => store.trouble(),
        _ => None,
    };
    let tell = |step, error: Option<&Error>| match step {
        WaitStep::Passed => tracing::warn!(what, "the archive goes on: what blocked it has passed"),
        WaitStep::Failed(trouble, next) => {
            *blocked.entry(trouble.as_str()).or_default() += 1;
            metrics::counter!(Metric::ARCHIVE_BLOCKED.name, "reason" => trouble.as_str())
                .increment(1);
            if let (Some(next), Some(error)) = (next, error) {
                tracing::warn!("the archive is blocked and tries again in {next:?}: {error}");
            }
        }
    };
    let waited = patience.wait_out(store.contact(), trouble, tell, work);
    waited.await
}

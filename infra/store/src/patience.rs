//! Waits for a disk or a server whose trouble may pass.

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{contact::Contact, error::Trouble};

/// Wait before the first retry. It is short, because another process may be about to free space.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between retries, so that work resumes soon after the trouble has passed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longest time to wait out a trouble, and what ends the wait early.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Time from the first failure on.
    pub longest: Duration,
    /// Token that ends the wait when it is cancelled.
    pub cancel: CancellationToken,
}

/// Step of a wait, for who reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStep {
    /// Failed try, after which the wait goes on for this time, or ends.
    Failed(Trouble, Option<Duration>),
    /// Success after failed tries.
    Passed,
}

impl Patience {
    /// Runs `work` until it succeeds, fails for good, or patience is over. It is repeated while
    /// `trouble` finds in its failure one that may pass. `contact` shows the wait meanwhile; `tell`
    /// hears of every failed try that counts, and of the end of a wait.
    ///
    /// # Errors
    /// The last failure of `work`.
    pub async fn wait_out<T, E: fmt::Display, W: Future<Output = Result<T, E>>>(
        &self,
        contact: &Contact,
        trouble: impl Fn(&E) -> Option<Trouble>,
        mut tell: impl FnMut(WaitStep, Option<&E>),
        mut work: impl FnMut() -> W,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let error = match work().await {
                Ok(done) => {
                    if wait > FIRST_WAIT {
                        contact.goes_on();
                        tell(WaitStep::Passed, None);
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            let Some(trouble) = trouble(&error) else {
                return Err(error);
            };
            let left = self.longest.saturating_sub(begun.elapsed());
            if left.is_zero() || self.cancel.is_cancelled() {
                contact.goes_on();
                tell(WaitStep::Failed(trouble, None), Some(&error));
                return Err(error);
            }
            let next = wait.min(left);
            contact.waits(begun, error.to_string());
            tell(WaitStep::Failed(trouble, Some(next)), Some(&error));
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = self.cancel.cancelled() => {
                    contact.goes_on();
                    return Err(error);
                }
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }
}

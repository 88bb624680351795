//! Choice of an endpoint, and when a failed one is tried again. No IO and no clock: times are
//! durations since the pool began.

use std::time::Duration;

use vintage_control::PolicyVersion;

use crate::fault::Verdict;

/// Shortest rest of an endpoint after a failure; it doubles with each failure in a row.
const SHORTEST: Duration = Duration::from_millis(250);
/// Longest rest.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest rest after a wrong reply, for which a server need not recover.
const LONGEST_IF_WRONG: Duration = Duration::from_secs(1);

/// State of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes requests.
    Ready,
    /// Takes requests again at this time.
    Resting(Duration),
    /// Out of service: the weights are being replaced, or the server is being brought up.
    Closed,
    /// Must be brought up again, from this time on.
    Down(Duration),
}

#[derive(Debug)]
struct Endpoint {
    phase: Phase,
    /// Weights that it holds, if it is ready or resting.
    version: PolicyVersion,
    outstanding: u64,
    /// Failures since the last success.
    failures: u32,
    last: String,
}

/// Endpoints of an engine, with their states.
#[derive(Debug)]
pub(crate) struct Pool(Vec<Endpoint>);

/// Answer to the question for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The request goes to this endpoint, which counts it.
    Take(usize),
    /// None before this time, unless something else changes.
    At(Duration),
    /// None until something changes.
    None,
}

impl Pool {
    /// Creates a pool of endpoints that must all be brought up.
    pub(crate) fn new(endpoints: usize) -> Self {
        let down = || Endpoint {
            phase: Phase::Down(Duration::ZERO),
            version: PolicyVersion::ZERO,
            outstanding: 0,
            failures: 0,
            last: "it was never reached".to_owned(),
        };
        Self((0..endpoints).map(|_| down()).collect())
    }

    /// Chooses the endpoint with the fewest outstanding requests among those that hold at least this
    /// version. The one to `avoid` is taken only if there is no other.
    pub(crate) fn pick(
        &mut self,
        now: Duration,
        at_least: PolicyVersion,
        avoid: Option<usize>,
    ) -> Pick {
        let mut wait = None;
        let mut best = None;
        for (index, endpoint) in self.0.iter_mut().enumerate() {
            if endpoint.version < at_least {
                continue;
            }
            match endpoint.phase {
                Phase::Resting(until) if now < until => {
                    wait = Some(wait.map_or(until, |wait: Duration| wait.min(until)));
                    continue;
                }
                Phase::Resting(_) => endpoint.phase = Phase::Ready,
                Phase::Ready => {}
                Phase::Closed | Phase::Down(_) => continue,
            }
            let rank = (avoid == Some(index), endpoint.outstanding, index);
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
            }
        }
        match (best, wait) {
            (Some((_, _, index)), _) => {
                self.0[index].outstanding += 1;
                Pick::Take(index)
            }
            (None, Some(until)) => Pick::At(until),
            (None, None) => Pick::None,
        }
    }

    /// Notes that a request has ended, in whatever way.
    pub(crate) fn ended(&mut self, index: usize) {
        let endpoint = &mut self.0[index];
        endpoint.outstanding = endpoint.outstanding.saturating_sub(1);
    }

    /// Notes that a request gave a completion.
    pub(crate) fn succeeded(&mut self, index: usize) {
        self.0[index].failures = 0;
    }

    /// Notes a failed request, with what it says of the server. Returns false if the endpoint was out
    /// of service already, so that the failure is one of many with the same cause.
    pub(crate) fn failed(
        &mut self,
        index: usize,
        now: Duration,
        verdict: Verdict,
        retry_after: Option<Duration>,
        why: &str,
    ) -> bool {
        let endpoint = &mut self.0[index];
        if verdict == Verdict::Sound {
            return true;
        }
        why.clone_into(&mut endpoint.last);
        // Requests that fail together count once: the endpoint rests already.
        if !matches!(endpoint.phase, Phase::Ready) {
            let breaks = verdict == Verdict::Broken && matches!(endpoint.phase, Phase::Resting(_));
            if breaks {
                endpoint.phase = Phase::Down(now + rest(endpoint.failures));
            }
            return breaks;
        }
        endpoint.failures += 1;
        let pause = rest(endpoint.failures);
        endpoint.phase = match verdict {
            Verdict::Broken => Phase::Down(now + pause),
            Verdict::Wrong => Phase::Resting(now + pause.min(LONGEST_IF_WRONG)),
            _ => Phase::Resting(now + pause.max(retry_after.unwrap_or_default()).min(LONGEST)),
        };
        true
    }

    /// Takes an endpoint out of service, so that its weights can be replaced. Returns false if it is
    /// down or closed already.
    pub(crate) fn close(&mut self, index: usize) -> bool {
        let endpoint = &mut self.0[index];
        let open = matches!(endpoint.phase, Phase::Ready | Phase::Resting(_));
        if open {
            endpoint.phase = Phase::Closed;
        }
        open
    }

    /// Closes an endpoint that is down and may be brought up now; returns false for any other.
    pub(crate) fn take_due(&mut self, index: usize, now: Duration) -> bool {
        let is_due = self.due(index).is_some_and(|due| due <= now);
        if is_due {
            self.0[index].phase = Phase::Closed;
        }
        is_due
    }

    /// Returns the time at which an endpoint may be brought up, if it is down.
    pub(crate) fn due(&self, index: usize) -> Option<Duration> {
        match self.0[index].phase {
            Phase::Down(until) => Some(until),
            _ => None,
        }
    }

    /// Puts a closed endpoint into service with these weights. Its failures count on until a request
    /// succeeds, so that one that dies of every request is asked ever more rarely.
    pub(crate) fn open(&mut self, index: usize, version: PolicyVersion) {
        let endpoint = &mut self.0[index];
        endpoint.phase = Phase::Ready;
        endpoint.version = version;
    }

    /// Notes that a closed endpoint could not be brought up.
    pub(crate) fn give_up(&mut self, index: usize, now: Duration, why: &str) {
        let endpoint = &mut self.0[index];
        endpoint.failures += 1;
        endpoint.phase = Phase::Down(now + rest(endpoint.failures));
        why.clone_into(&mut endpoint.last);
    }

    /// Returns true if an endpoint with at least this version is in service.
    pub(crate) fn serves(&self, at_least: PolicyVersion) -> bool {
        self.0.iter().any(|endpoint| {
            endpoint.version >= at_least
                && matches!(endpoint.phase, Phase::Ready | Phase::Resting(_))
        })
    }

    /// Returns true if an endpoint is being brought up or its weights are being replaced.
    pub(crate) fn is_changing(&self) -> bool {
        self.0
            .iter()
            .any(|endpoint| endpoint.phase == Phase::Closed)
    }

    /// Last failure of each endpoint.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|endpoint| endpoint.last.as_str())
    }
}

/// Time for which an endpoint rests after this many failures in a row.
fn rest(failures: u32) -> Duration {
    let doubled = SHORTEST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST)
}

#[cfg(test)]
mod tests;

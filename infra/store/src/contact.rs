//! Contact with a store: whether it answers, as the requests of this process show it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Time after which a request without an answer counts as an outage.
const LATE: Duration = Duration::from_secs(5);

/// Contact of this process with one store, shared by all its handles.
///
/// The library repeats a failed request for half a minute before it reports the failure, so every
/// single attempt is noted here.
#[derive(Debug, Default)]
pub struct Contact {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Begin of every request that has no answer yet, and the server's address.
    open: BTreeMap<u64, (Instant, String)>,
    requests: u64,
    /// Attempts that failed since the last answer.
    failing: Option<Failing>,
    /// Operation that waits for a trouble to pass.
    waiting: Option<Failing>,
}

#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    reason: String,
}

impl Failing {
    /// Replaces the reason of `before`, and keeps its begin.
    fn renew(before: &mut Option<Self>, since: Instant, reason: String) {
        let since = before.as_ref().map_or(since, |before| before.since);
        *before = Some(Self { since, reason });
    }
}

/// Time for which a store has not served this process, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Time since the first request that failed.
    pub time: Duration,
    /// Address or path, and what went wrong.
    pub reason: String,
}

impl Contact {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request to a server; the returned guard notes its answer. One that is not `short`
    /// may take its time: nothing is heard while a large body is sent.
    pub(crate) fn request(&self, address: &str, short: bool) -> Request<'_> {
        let mut state = self.state();
        state.requests += 1;
        let number = state.requests;
        let begun = Instant::now();
        if short {
            state.open.insert(number, (begun, address.to_owned()));
        }
        Request {
            contact: self,
            number,
            begun,
        }
    }

    /// Notes that an operation waits for a trouble to pass.
    pub(crate) fn waits(&self, since: Instant, reason: String) {
        Failing::renew(&mut self.state().waiting, since, reason);
    }

    /// Notes that no operation waits any more.
    pub(crate) fn goes_on(&self) {
        self.state().waiting = None;
    }

    /// Returns the outage that lasts, if one does.
    pub fn outage(&self) -> Option<Outage> {
        let state = self.state();
        let told = |failing: &Failing| Outage {
            time: failing.since.elapsed(),
            reason: failing.reason.clone(),
        };
        if let Some(failing) = state.failing.as_ref().or(state.waiting.as_ref()) {
            return Some(told(failing));
        }
        let (begun, address) = state.open.values().min()?;
        let time = begun.elapsed();
        (time >= LATE).then(|| Outage {
            time,
            reason: format!("no answer from {address}"),
        })
    }
}

/// Request that has no answer yet.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    contact: &'a Contact,
    number: u64,
    begun: Instant,
}

impl Request<'_> {
    /// Notes an answer that shows that the server works.
    pub(crate) fn answered(self) {
        self.contact.state().failing = None;
    }

    /// Notes that there was none, or one that says that the server does not work.
    pub(crate) fn failed(self, reason: String) {
        Failing::renew(&mut self.contact.state().failing, self.begun, reason);
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.contact.state().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_the_first_failure_to_the_next_answer() {
        let contact = Contact::default();
        assert_eq!(contact.outage(), None);
        let request = contact.request("http://store:1", true);
        assert_eq!(contact.outage(), None, "it may still answer");
        request.failed("http://store:1 refuses".to_owned());
        contact
            .request("http://store:1", false)
            .failed("http://store:1 is gone".to_owned());
        let outage = contact.outage().expect("two failures");
        assert_eq!(outage.reason, "http://store:1 is gone");
        contact.request("http://store:1", false).answered();
        assert_eq!(contact.outage(), None);
        contact.waits(Instant::now(), "cannot read x".to_owned());
        assert_eq!(contact.outage().expect("a wait").reason, "cannot read x");
        contact.goes_on();
        assert_eq!(contact.outage(), None);
    }
}

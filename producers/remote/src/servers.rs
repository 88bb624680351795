//! Servers of an engine: which takes the next request, and which is brought up again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use vintage_control::{Metric, PolicyVersion};
use vintage_rollout::Sampling;
use vintage_settings::{EngineKind, ServerConfig};

use crate::{
    check::{ADAPTERS_REMEDY, Reference, check_abilities, check_model},
    error::Error,
    fault::{Reason, ServerFault, Verdict},
    label::Labels,
    pool::{Pick, Pool},
    reply::Limits,
    server::Server,
    swap::{Target, forget, swap},
    transport::Transport,
};

/// Number of older adapters that a server keeps beside the newest.
const ADAPTERS_KEPT: usize = 4;

/// Servers of one engine, shared by its requests and by the task that brings them up.
pub(crate) struct Servers {
    /// Facts of the run that the servers are held against.
    pub(crate) facts: Facts,
    members: Vec<Member>,
    pool: Mutex<Pool>,
    /// Wakes who waits for an endpoint.
    changed: Notify,
    /// Weights that servers are to hold; `None` before the first load, or if theirs are fixed.
    target: Mutex<Option<Target>>,
    /// Oldest version that new completions may be sampled with.
    floor: Mutex<PolicyVersion>,
    /// Reason for which a server that is up cannot be used.
    unfit: Mutex<Option<Error>>,
    began: Instant,
}

/// Facts of a run that its servers are held against.
pub(crate) struct Facts {
    pub(crate) wanted: EngineKind,
    pub(crate) settings: ServerConfig,
    pub(crate) labels: Labels,
    pub(crate) limits: Limits,
    /// Sampling settings of the run, with which log-probs are measured.
    pub(crate) sampling: Sampling,
    pub(crate) reference: Reference,
}

/// One server with what was found out about it last.
struct Member {
    http: Transport,
    server: Mutex<Option<Arc<Server>>>,
    /// Adapters that were loaded and are no longer the newest, the oldest first.
    retired: Mutex<Vec<Arc<Server>>>,
}

impl Member {
    fn server(&self) -> Option<Arc<Server>> {
        self.lock().clone()
    }

    /// Puts the server as it is to be asked from now on in the place of how it was.
    fn replace(&self, server: Server) {
        let before = self.lock().replace(Arc::new(server));
        let before = before.filter(|before| before.adapter.is_some());
        self.retired().extend(before);
    }

    /// Takes the labels of adapters that no request of this process asks for any more. A producer
    /// beside this one may be a few versions behind.
    fn unused(&self) -> Vec<String> {
        let newest = self.server();
        let mut retired = self.retired();
        let mut unused = Vec::new();
        let beyond = retired.len().saturating_sub(ADAPTERS_KEPT);
        let mut at = 0;
        retired.retain(|server| {
            at += 1;
            let stays = at > beyond || Arc::strong_count(server) > 1;
            let is_newest = newest
                .as_ref()
                .is_some_and(|newest| newest.adapter == server.adapter);
            if !stays && !is_newest {
                unused.extend(server.adapter.clone());
            }
            stays
        });
        unused
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<Server>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Server>>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Request's place at a server; counted until it is dropped.
pub(crate) struct Seat<'a> {
    servers: &'a Servers,
    pub(crate) index: usize,
    pub(crate) http: &'a Transport,
    pub(crate) server: Arc<Server>,
}

impl Servers {
    pub(crate) fn new(facts: Facts, transports: Vec<Transport>, target: Option<Target>) -> Self {
        let floor = target
            .as_ref()
            .map_or(PolicyVersion::ZERO, |target| target.version);
        let member = |http| Member {
            http,
            server: Mutex::new(None),
            retired: Mutex::default(),
        };
        Self {
            facts,
            pool: Mutex::new(Pool::new(transports.len())),
            members: transports.into_iter().map(member).collect(),
            changed: Notify::new(),
            target: Mutex::new(target),
            floor: Mutex::new(floor),
            unfit: Mutex::new(None),
            began: Instant::now(),
        }
    }

    /// Waits for a server that holds at least this version, and takes a place at it.
    ///
    /// # Errors
    /// None was in service for as long as `patience_seconds`.
    pub(crate) async fn seat(
        &self,
        at_least: PolicyVersion,
        avoid: Option<usize>,
    ) -> Result<Seat<'_>, Error> {
        let mut deadline = Instant::now() + self.facts.settings.patience();
        loop {
            let changed = self.changed.notified();
            let pick = self.pool().pick(self.now(), at_least, avoid);
            let wake = match pick {
                Pick::Take(index) => {
                    let member = &self.members[index];
                    let server = member.server();
                    let seat = server.map(|server| Seat {
                        servers: self,
                        index,
                        http: &member.http,
                        server,
                    });
                    match seat {
                        Some(seat) => return Ok(seat),
                        // Only servers that were brought up are in service.
                        None => self.pool().ended(index),
                    }
                    deadline
                }
                Pick::At(time) => deadline.min(self.began + time),
                Pick::None => deadline,
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(wake) => {}
            }
            let hope = {
                let pool = self.pool();
                pool.is_changing() || pool.serves(at_least)
            };
            if hope {
                deadline = Instant::now() + self.facts.settings.patience();
            }
            if Instant::now() >= deadline {
                return Err(self.nobody());
            }
        }
    }

    /// Notes a failed request and counts it under its reason.
    pub(crate) fn failed(&self, index: usize, fault: &ServerFault) {
        metrics::counter!(Metric::ENGINE_FAILURES.name, "reason" => fault.reason.as_str())
            .increment(1);
        let verdict = fault.reason.verdict();
        let now = self.now();
        let is_news = self
            .pool()
            .failed(index, now, verdict, fault.retry_after, &fault.detail);
        // A server that dies fails all of its requests, by the hundred.
        if is_news {
            tracing::warn!(reason = fault.reason.as_str(), "{fault}");
        } else {
            tracing::debug!(reason = fault.reason.as_str(), "{fault}");
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn succeeded(&self, index: usize) {
        self.pool().succeeded(index);
    }

    /// Oldest version that a new completion may be sampled with.
    pub(crate) fn floor(&self) -> PolicyVersion {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the weights of all servers that are in service, one after the other, while the others
    /// go on. Returns once a server holds them; the rest follows as it comes back.
    pub(crate) async fn load(&self, target: Target) -> Result<(), Error> {
        let version = target.version;
        *self.target() = Some(target.clone());
        for (index, member) in self.members.iter().enumerate() {
            if !self.pool().close(index) {
                continue;
            }
            let server = member.server();
            let patience = self.facts.settings.swap();
            let swapped = match &server {
                Some(server) => swap(&member.http, server, &target, patience).await,
                None => continue,
            };
            drop(server);
            let fault = match swapped {
                Ok(server) => {
                    member.replace(server);
                    None
                }
                Err(fault) => Some(fault),
            };
            self.settle(index, version, fault.as_ref());
            for label in member.unused() {
                forget(&member.http, &label, self.facts.settings.connect()).await;
            }
        }
        self.serving(version).await?;
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner) = version;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Waits until a server comes into service for the first time.
    ///
    /// # Errors
    /// A server is up and lacks what a run needs; or none came in `patience_seconds`.
    pub(crate) async fn first(&self, version: PolicyVersion) -> Result<(), Error> {
        let unfit = async {
            loop {
                let changed = self.changed.notified();
                if let Some(error) = self.unfit().take() {
                    return error;
                }
                changed.await;
            }
        };
        tokio::select! {
            biased;
            error = unfit => Err(error),
            served = self.serving(version) => served,
        }
    }

    /// Waits until a server with at least this version is in service.
    async fn serving(&self, version: PolicyVersion) -> Result<(), Error> {
        let mut deadline = Instant::now() + self.facts.settings.patience();
        loop {
            let changed = self.changed.notified();
            if self.pool().serves(version) {
                return Ok(());
            }
            if self.pool().is_changing() {
                deadline = Instant::now() + self.facts.settings.patience();
            }
            if Instant::now() >= deadline {
                return Err(self.nobody());
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Brings up every server that is down, as soon as it may be tried again, for ever.
    pub(crate) async fn bring_up_all(&self) {
        let members = (0..self.members.len()).map(|index| self.keep_up(index));
        futures::future::join_all(members).await;
    }

    /// Brings up one server whenever it is down.
    async fn keep_up(&self, index: usize) {
        loop {
            let changed = self.changed.notified();
            let now = self.now();
            if self.pool().take_due(index, now) {
                self.bring_up(index).await;
                if !self.pool().is_changing() {
                    self.facts.reference.close().await;
                }
                continue;
            }
            let due = self.pool().due(index);
            tokio::select! {
                () = changed => {}
                () = wait_for(due.map(|due| self.began + due)) => {}
            }
        }
    }

    /// Finds out what a closed server is, checks it, loads the newest weights into it, and opens it.
    async fn bring_up(&self, index: usize) {
        let http = &self.members[index].http;
        loop {
            let target = self.target().clone();
            match self.prepare(index, target.as_ref()).await {
                Ok(()) => {
                    // Another version may have been asked for meanwhile. While this lock is held,
                    // none can be.
                    let current = self.target();
                    if *current == target {
                        let version = target.map_or(PolicyVersion::ZERO, |target| target.version);
                        return self.settle(index, version, None);
                    }
                }
                Err(Error::Server { fault, .. }) => {
                    let version = target.map_or(PolicyVersion::ZERO, |target| target.version);
                    return self.settle(index, version, Some(&fault));
                }
                Err(error) => {
                    tracing::warn!("{} is not used: {error}", http.url());
                    self.pool().give_up(index, self.now(), &error.to_string());
                    *self.unfit() = Some(error);
                    return self.changed.notify_waiters();
                }
            }
        }
    }

    async fn prepare(&self, index: usize, target: Option<&Target>) -> Result<(), Error> {
        let http = &self.members[index].http;
        let (wanted, model) = (self.facts.wanted, self.facts.settings.model.as_deref());
        let mut server = Server::detect(http, wanted, model, self.facts.settings.connect()).await?;
        check_abilities(self, http, &server)?;
        if let Some(target) = target {
            let swapped = swap(http, &server, target, self.facts.settings.swap()).await;
            server = swapped.map_err(|fault| refused(http, target, fault))?;
        }
        let version = target.map_or(PolicyVersion::ZERO, |target| target.version);
        check_model(self, http, &server, version).await?;
        self.members[index].replace(server);
        Ok(())
    }

    /// Kind and release of the first server in service, and the shortest context of all.
    pub(crate) fn name_and_context(&self) -> (String, Option<usize>) {
        let (mut name, mut context) = (None, None);
        for member in &self.members {
            if let Some(server) = member.server() {
                name.get_or_insert_with(|| format!("{}/{}", server.kind.as_str(), server.release));
                context = match (context, server.context) {
                    (Some(a), Some(b)) => Some(usize::min(a, b)),
                    (a, b) => a.or(b),
                };
            }
        }
        (name.unwrap_or_default(), context)
    }

    /// Opens a closed server, or notes why it stays closed.
    fn settle(&self, index: usize, version: PolicyVersion, fault: Option<&ServerFault>) {
        let http = &self.members[index].http;
        match fault {
            None => {
                tracing::info!("{} is in service with version {version}", http.url());
                self.pool().open(index, version);
            }
            Some(fault) => {
                metrics::counter!(Metric::ENGINE_FAILURES.name, "reason" => fault.reason.as_str())
                    .increment(1);
                tracing::warn!(
                    reason = fault.reason.as_str(),
                    "{} cannot be given version {version}: {fault}",
                    http.url()
                );
                self.pool().give_up(index, self.now(), &fault.detail);
            }
        }
        self.changed.notify_waiters();
    }

    fn nobody(&self) -> Error {
        let pool = self.pool();
        let servers = self.members.iter().zip(pool.failures());
        let servers: Vec<_> = servers
            .map(|(member, why)| format!("{}: {why}", member.http.url()))
            .collect();
        Error::NoServer {
            seconds: self.facts.settings.patience_seconds,
            servers: servers.join("; "),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // No code panics while it holds the lock half-way through a change.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfit(&self) -> MutexGuard<'_, Option<Error>> {
        self.unfit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self) -> MutexGuard<'_, Option<Target>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// Notes a failure of the request; returns true if another attempt may succeed.
    pub(crate) fn failed(&self, fault: &ServerFault) -> bool {
        self.servers.failed(self.index, fault);
        fault.reason.verdict() != Verdict::Sound
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.servers.pool().ended(self.index);
    }
}

/// Returns the error of a server that could not be given a version.
fn refused(http: &Transport, target: &Target, fault: ServerFault) -> Error {
    if target.adapter.is_some() && fault.reason == Reason::Refused {
        return Error::Unfit {
            url: http.url().to_owned(),
            what: format!("it does not take adapters: {fault}"),
            remedy: ADAPTERS_REMEDY.to_owned(),
        };
    }
    Error::Server {
        attempted: format!("load version {} into {}", target.version, http.url()),
        fault,
    }
}

async fn wait_for(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

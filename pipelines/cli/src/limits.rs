//! What the system allows this process to have: open files and threads.
//!
//! Where these run out in the middle, a client waits for a connection that cannot be opened, and
//! a runtime that cannot start a thread panics. So they are looked at first, and the limit named.

use std::{
    fs, io,
    sync::{Mutex, PoisonError},
    thread::{self, Builder},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::Verb;

/// What a verb needs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    /// Open files.
    files: u64,
    /// Threads beside those that compute, of which there is one a core.
    threads: usize,
}

/// A look at a folder: the runtime, and a few files.
const LITTLE: Needs = Needs {
    files: 16,
    threads: 4,
};
/// A client of Kafka: a thread and a connection a broker, and its own; the archive's files.
const CLIENT: Needs = Needs {
    files: 48,
    threads: 16,
};
/// Every role and a broker in one process.
const RUN: Needs = Needs {
    files: 96,
    threads: 40,
};

/// The soft limit is raised to this at most: what a run starts inherits it, and some programs close
/// every file they might have.
const PLENTY: u64 = 65_536;

fn needs(verb: &Verb) -> Needs {
    match verb {
        Verb::Run(_) | Verb::Bench(_) => RUN,
        Verb::Rollout(_)
        | Verb::Learn(_)
        | Verb::Archive(_)
        | Verb::Replay(_)
        | Verb::Audit(_)
        | Verb::Inspect(_)
        | Verb::Topics(_)
        | Verb::Broker(_)
        | Verb::Doctor(_) => CLIENT,
        Verb::Weigh(_)
        | Verb::Parity(_)
        | Verb::Export(_)
        | Verb::Report(_)
        | Verb::Config(_)
        | Verb::Completions(_) => LITTLE,
    }
}

/// Too little is allowed. Names the limit and how it is raised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Limited {
    #[error(
        "this process may have {allowed} files open at once, and needs {needed}: raise the limit \
         (ulimit -n {needed}, or LimitNOFILE of the service)"
    )]
    Files {
        /// By the limit.
        allowed: u64,
        /// At least.
        needed: u64,
    },
    #[error(
        "{needed} threads cannot be started ({source}){limits}: raise the limit (ulimit -u, \
         TasksMax of the service, or the pids limit of the container), or end what else runs"
    )]
    Threads {
        /// At least.
        needed: usize,
        /// What limits there are, in words.
        limits: String,
        /// As the system said it.
        source: io::Error,
    },
}

/// Raises the soft limit on open files as far as the hard one lets it, and makes sure that there is
/// room for what `verb` does.
pub(crate) fn check(verb: &Verb) -> Result<(), Limited> {
    let needs = needs(verb);
    let files = getrlimit(Resource::Nofile);
    if let Some(short) = too_few(files, needs.files) {
        return Err(short);
    }
    let enough = files.maximum.map_or(PLENTY, |most| most.min(PLENTY));
    if files.current.is_some_and(|current| current < enough) {
        let raised = Rlimit {
            current: Some(enough),
            ..files
        };
        // As it was may do as well.
        let _unraised = setrlimit(Resource::Nofile, raised);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // The runtime has one a core, and so has what computes.
    let needed = needs.threads + 2 * cores;
    start_and_end(needed).map_err(|source| Limited::Threads {
        needed,
        limits: limits(),
        source,
    })
}

fn too_few(files: Rlimit, needed: u64) -> Option<Limited> {
    let allowed = files.maximum.filter(|allowed| *allowed < needed)?;
    Some(Limited::Files { allowed, needed })
}

/// Whether so many threads can be there at once.
fn start_and_end(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = || drop(gate.lock());
        let started = (0..count).try_for_each(|_| {
            Builder::new()
                .spawn_scoped(scope, wait)
                .map(|_ends_itself| ())
        });
        drop(closed);
        started
    })
}

/// The limits that may be meant.
fn limits() -> String {
    let of_user = getrlimit(Resource::Nproc)
        .current
        .map(|limit| format!("the user may have {limit}"));
    let of_group = fs::read_to_string("/sys/fs/cgroup/pids.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map(|limit| format!("the container may have {limit}"));
    let known: Vec<_> = of_user.into_iter().chain(of_group).collect();
    if known.is_empty() {
        String::new()
    } else {
        format!("; {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_below_the_need_is_named_and_a_soft_one_is_none() {
        let limit = |current, maximum| Rlimit {
            current: Some(current),
            maximum,
        };
        let short = too_few(limit(20, Some(20)), 64)
            .expect("too few")
            .to_string();
        assert!(
            short.contains("20 files") && short.contains("ulimit -n 64"),
            "{short}"
        );
        assert!(too_few(limit(20, Some(4096)), 64).is_none());
        assert!(too_few(limit(20, None), 64).is_none());
    }

    #[test]
    fn threads_that_can_be_had_are_given_back() {
        start_and_end(8).expect("eight threads");
    }
}

//! Checks of the system's limits on this process: open files and threads.
//!
//! If these run out in the middle of a run, a client waits for a connection that cannot be opened,
//! and a runtime that cannot start a thread panics. They are checked first, so that an error can
//! name the limit.

use std::{
    fs, io,
    sync::{Mutex, PoisonError},
    thread::{self, Builder},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::Verb;

/// Resources that a verb needs at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    /// Number of open files.
    files: u64,
    /// Number of threads beside the compute threads, of which there is one per core.
    threads: usize,
}

/// Needs of a verb that reads a folder: the runtime and a few files.
const LITTLE: Needs = Needs {
    files: 16,
    threads: 4,
};
/// Needs of a verb with a Kafka client: its threads, a thread and a connection per broker, and the
/// archive's files. A server needs as many for its connections.
const CLIENT: Needs = Needs {
    files: 48,
    threads: 16,
};
/// Needs of a verb that runs every role and a broker in one process.
const RUN: Needs = Needs {
    files: 96,
    threads: 40,
};

/// Highest value to which the soft limit on open files is raised. Child processes inherit it, and
/// some programs close every file descriptor up to the limit.
const PLENTY: u64 = 65_536;

fn needs(verb: &Verb) -> Needs {
    match verb {
        Verb::Run(_) | Verb::Bench(_) | Verb::Experiment(_) => RUN,
        Verb::Rollout(_)
        | Verb::Learn(_)
        | Verb::Archive(_)
        | Verb::Replay(_)
        | Verb::Audit(_)
        | Verb::Inspect(_)
        | Verb::Topics(_)
        | Verb::Broker(_)
        | Verb::Serve(_)
        | Verb::Doctor(_) => CLIENT,
        Verb::Weigh(_)
        | Verb::Parity(_)
        | Verb::Mismatch(_)
        | Verb::Staleness(_)
        | Verb::Eval(_)
        | Verb::Export(_)
        | Verb::Report(_)
        | Verb::Samples(_)
        | Verb::Uses(_)
        | Verb::Reward(_)
        | Verb::Prune(_)
        | Verb::Config(_)
        | Verb::Init(_)
        | Verb::Completions(_) => LITTLE,
    }
}

/// Error of a limit that is too low; it names the limit and how to raise it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Limited {
    #[error(
        "this process may have {allowed} files open at once, and needs {needed}: raise the limit \
         (ulimit -n {needed}, or LimitNOFILE of the service)"
    )]
    Files {
        /// Number of files that the hard limit allows.
        allowed: u64,
        /// Number of files that the verb needs at least.
        needed: u64,
    },
    #[error(
        "{needed} threads cannot be started ({source}){limits}: raise the limit (ulimit -u, \
         TasksMax of the service, or the pids limit of the container), or end what else runs"
    )]
    Threads {
        /// Number of threads that the verb needs at least.
        needed: usize,
        /// Known limits, in words.
        limits: String,
        /// Error of the system.
        source: io::Error,
    },
}

/// Raises the soft limit on open files as far as the hard limit permits, and checks that the limits
/// suffice for `verb`.
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
        // The limit as it was may suffice.
        let _unraised = setrlimit(Resource::Nofile, raised);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // One thread per core for the runtime, and one for compute.
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

/// Starts `count` threads at the same time and ends them; fails if the system refuses one.
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

/// Describes the limits on threads that may apply, for the error message.
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

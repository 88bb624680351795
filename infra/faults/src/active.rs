//! Implementation of the faults with the feature `on`.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write as _},
    ops::RangeInclusive,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::registry::{MISTAKES, POINTS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    /// Failure with this OS error number.
    Fail(i32),
    Seeded,
}

#[derive(Debug)]
struct Order {
    action: Action,
    hits: RangeInclusive<u64>,
    seen: AtomicU64,
}

type Orders = BTreeMap<String, Order>;

fn orders() -> &'static Orders {
    static ORDERS: OnceLock<Orders> = OnceLock::new();
    ORDERS.get_or_init(|| {
        let text = std::env::var("VINTAGE_FAULTS").unwrap_or_default();
        parse(&text).unwrap_or_else(|why| panic!("VINTAGE_FAULTS={text}: {why}"))
    })
}

fn parse(text: &str) -> Result<Orders, String> {
    let mut orders = Orders::new();
    for order in text
        .split(',')
        .map(str::trim)
        .filter(|order| !order.is_empty())
    {
        let (name, what) = order.split_once('=').unwrap_or((order, "seeded@1.."));
        let (action, hits) = what.split_once('@').unwrap_or((what, "1"));
        let action = match action {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "eio" => Action::Fail(5),
            "enospc" => Action::Fail(28),
            "erofs" => Action::Fail(30),
            "seeded" => Action::Seeded,
            other => return Err(format!("no action {other}")),
        };
        let known = match action {
            Action::Kill | Action::Stop => POINTS.iter().any(|point| point.name == name),
            Action::Seeded => MISTAKES.iter().any(|(mistake, _)| *mistake == name),
            // Names of failures are not registered; they are given where [`crate::failure`] is
            // called.
            Action::Fail(_) => true,
        };
        if !known {
            return Err(format!("nothing is called {name}"));
        }
        let number = |text: &str| text.parse().map_err(|_| format!("no number: {text}"));
        let hits = match hits.split_once("..") {
            None => number(hits)?..=number(hits)?,
            Some((first, "")) => number(first)?..=u64::MAX,
            Some((first, last)) => number(first)?..=number(last)?,
        };
        let seen = AtomicU64::new(0);
        orders.insert(name.to_owned(), Order { action, hits, seen });
    }
    Ok(orders)
}

fn strike(name: &str, in_hand: u64) -> Option<Action> {
    let order = orders().get(name)?;
    let hit = order.seen.fetch_add(1, Ordering::AcqRel) + 1;
    if !order.hits.contains(&hit) {
        return None;
    }
    if order.action != Action::Seeded {
        log(name, hit, in_hand);
    }
    Some(order.action)
}

fn log(name: &str, hit: u64, in_hand: u64) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Ok(path) = std::env::var("VINTAGE_FAULTS_LOG") else {
        return;
    };
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    let line =
        format!("{{\"point\":\"{name}\",\"hit\":{hit},\"in_hand\":{in_hand},\"pid\":{pid}}}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(line.as_bytes())
                .and_then(|()| file.sync_all())
        });
    written.unwrap_or_else(|error| panic!("VINTAGE_FAULTS_LOG={path}: {error}"));
}

pub(crate) fn point(name: &'static str, in_hand: u64) {
    debug_assert!(
        POINTS.iter().any(|point| point.name == name),
        "{name} is not in the registry"
    );
    match strike(name, in_hand) {
        Some(Action::Kill) => signal(rustix::process::Signal::KILL),
        Some(Action::Stop) => signal(rustix::process::Signal::STOP),
        Some(Action::Fail(_) | Action::Seeded) | None => {}
    }
}

pub(crate) fn failure(name: &'static str) -> Option<io::Error> {
    match strike(name, 0)? {
        Action::Fail(number) => Some(io::Error::from_raw_os_error(number)),
        _ => None,
    }
}

pub(crate) fn mistake(name: &'static str) -> bool {
    strike(name, 0) == Some(Action::Seeded)
}

fn signal(signal: rustix::process::Signal) {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, signal).expect("a process may signal itself");
    if signal == rustix::process::Signal::KILL {
        // The process dies before any thread executes another instruction of user code; this thread
        // waits for that.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, parse};

    #[test]
    fn orders_are_read() {
        let orders =
            parse("learner.planned=kill@3, store.stage=enospc@2..4,mistake.overwrite").unwrap();
        assert_eq!(orders["learner.planned"].action, Action::Kill);
        assert_eq!(orders["learner.planned"].hits, 3..=3);
        assert_eq!(orders["store.stage"].action, Action::Fail(28));
        assert_eq!(orders["store.stage"].hits, 2..=4);
        assert_eq!(orders["mistake.overwrite"].hits, 1..=u64::MAX);
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for bad in [
            "learner.plannd=kill",
            "learner.planned=boom",
            "learner.planned=kill@x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

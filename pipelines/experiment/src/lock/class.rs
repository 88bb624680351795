//! Function class: the optimal functions of every lock that is possible.

use super::{
    table::{Function, Policy},
    world::{Chances, GOOD, Lock, codes},
};

/// Finite class that holds the optimal function, and the codes whose policies have a density ratio.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    /// Optimal functions of the locks of every code, then of those with a decoy.
    pub(crate) functions: Vec<Function>,
    /// Policies that follow a code, by code.
    pub(crate) policies: Vec<Policy>,
}

impl Class {
    /// Builds the class of all codes, each with the prize that there is and with none: a decoy says that
    /// opening gives nothing, which no data contradict until the lock was opened.
    pub(crate) fn of(lock: &Lock) -> Self {
        let codes = codes(lock.code.len(), lock.actions);
        let with = |success: f64| {
            let locks = codes.iter().map(move |code| Lock {
                code: code.clone(),
                actions: lock.actions,
                chances: Chances {
                    success,
                    ..lock.chances
                },
            });
            locks.map(|lock| lock.optimal())
        };
        let shape = lock.shape();
        let follow = |code: &Vec<usize>| {
            Policy::new(shape, |layer, state| if state == GOOD { code[layer] } else { 0 })
        };
        Self {
            functions: with(lock.chances.success).chain(with(0.0)).collect(),
            policies: codes.iter().map(follow).collect(),
        }
    }
}

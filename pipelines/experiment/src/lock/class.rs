//! Function class: for every code a function that promises the prize, and a decoy that promises nothing.

use serde::{Deserialize, Serialize};

use super::{
    table::{Function, Policy},
    world::{Chances, GOOD, Lock, codes},
};

/// Functions that promise nothing for a code. Half of the class are decoys, and before the lock was opened
/// they decide how hard it is: their greedy policies do not look for the code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoys {
    /// 0 for the code's actions, the lure's chance for all others. A wrong action of the code that was tried
    /// often contradicts the decoy by the lure's chance.
    #[default]
    Plain,
    /// Optimal functions of a lock that pays nothing when it is opened. No failure contradicts them: until
    /// the first success they fit whatever was seen as well as the optimum does.
    Consistent,
}

/// Promise of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Function that is optimal for the lock of its code.
    Prize,
    /// Function that promises nothing.
    Decoy(Decoys),
}

impl Promise {
    /// Both promises, in the order of the class.
    pub(crate) fn both(decoys: Decoys) -> [Self; 2] {
        [Self::Prize, Self::Decoy(decoys)]
    }

    /// Returns the function of a code, in a world with the chances of `lock`. Its values in a layer depend on
    /// the code's action there alone, and the values ahead on no code.
    pub(crate) fn function(self, lock: &Lock, code: &[usize]) -> Function {
        let of = |success: f64| Lock {
            code: code.to_vec(),
            actions: lock.actions,
            chances: Chances {
                success,
                ..lock.chances
            },
        };
        match self {
            Self::Prize => of(lock.chances.success).optimal(),
            Self::Decoy(Decoys::Consistent) => of(0.0).optimal(),
            Self::Decoy(Decoys::Plain) => {
                let shape = lock.shape();
                let mut values = vec![0.0; shape.cells()];
                for (layer, own) in code.iter().enumerate() {
                    for action in (0..lock.actions).filter(|action| action != own) {
                        values[shape.cell(layer, GOOD, action)] = lock.chances.lure;
                    }
                }
                Function::new(shape, values)
            }
        }
    }
}

/// Finite class that holds the optimal function, and the codes whose policies have a density ratio.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    /// Functions that promise the prize, by code, then the decoys.
    pub(crate) functions: Vec<Function>,
    /// Policies that follow a code, by code.
    pub(crate) policies: Vec<Policy>,
}

impl Class {
    /// Builds the class of all codes of a lock's size.
    pub(crate) fn of(lock: &Lock, decoys: Decoys) -> Self {
        let codes = codes(lock.code.len(), lock.actions);
        let functions = Promise::both(decoys).into_iter().flat_map(|promise| {
            let codes = codes.iter();
            codes.map(move |code| promise.function(lock, code))
        });
        let shape = lock.shape();
        let follow = |code: &Vec<usize>| {
            Policy::new(
                shape,
                |layer, state| if state == GOOD { code[layer] } else { 0 },
            )
        };
        Self {
            functions: functions.collect(),
            policies: codes.iter().map(follow).collect(),
        }
    }
}

//! A store as it must not be: a test orders it, to see that an audit finds what comes of it.

use vintage_faults::mistake;

use crate::folder::Promise;

/// What a store promises, or less.
pub(crate) fn broken(promise: Promise) -> Promise {
    Promise {
        fenced: promise.fenced && !mistake("mistake.overwrite"),
        ..promise
    }
}

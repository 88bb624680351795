//! Construction of each role, in one place for `vintage run` and for the role's own verb.

pub(crate) mod archive;
pub(crate) mod evaluator;
pub(crate) mod granter;
pub(crate) mod learner;
pub(crate) mod producer;

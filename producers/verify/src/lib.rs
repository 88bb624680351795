//! Answer extraction and equivalence, pure.

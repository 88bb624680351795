//! Integration tests: one binary that checks the tree and drives the built `vintage`.

mod architecture;

//! Integration tests: one binary that checks the tree and drives the built `vintage`.

mod architecture;
mod kill;
mod replay;
mod roles;

//! Integration tests: one binary that drives the built `vintage`.

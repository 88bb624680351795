//! Logging for every role.

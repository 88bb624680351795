//! Trajectory v1: domain types, Arrow schema, IPC codec, text headers, evolution.

//! Configuration layers, topologies, supervision, reports.

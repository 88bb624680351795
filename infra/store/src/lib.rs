//! Durable objects: create-if-absent records, and weights by version and hash.

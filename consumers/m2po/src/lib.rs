//! M2PO and its control arms as pure functions on slices.

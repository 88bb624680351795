//! OpenSSL's initialisation, of which this crate must be the first caller.

/// Initialises OpenSSL so that it keeps its tables when the process exits. Must be called before
/// librdkafka makes its first client or mock cluster, which would initialise it otherwise.
///
/// OpenSSL by itself frees its tables in an exit handler. Clients are destroyed on threads of
/// their own, which may be in a handshake, or about to free what OpenSSL keeps for them, while the
/// process exits: seen as SIGSEGV, and as `malloc_consolidate(): invalid chunk size` with SIGABRT,
/// both after the last line of output.
pub(crate) fn keep_tables() {
    openssl_sys::init();
}

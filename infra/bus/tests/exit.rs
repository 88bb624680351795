//! Test of what happens to OpenSSL when a process that talked to the embedded broker exits.

#![expect(
    clippy::print_stderr,
    reason = "the process that exits has no other way to tell its parent"
)]

use std::{env, ffi::c_int, process::Command};

use openssl_sys as _;
use vintage_bus::Embedded;

#[expect(unsafe_code, reason = "a function of OpenSSL that openssl-sys lacks")]
unsafe extern "C" {
    fn OPENSSL_atexit(handler: extern "C" fn()) -> c_int;
}

/// Marks the process that exits; its parent reads what it prints.
const CHILD: &str = "VINTAGE_TEST_THIS_PROCESS_EXITS";
const FREED: &str = "OpenSSL frees its tables";

extern "C" fn freed() {
    eprintln!("{FREED}");
}

/// Threads that destroy clients may use OpenSSL's tables until the process is gone, so that nothing
/// frees them before (`src/openssl.rs`).
#[test]
fn openssl_keeps_its_tables_when_the_process_exits() {
    if env::var_os(CHILD).is_some() {
        return use_a_broker();
    }
    let test = env::current_exe().unwrap();
    let child = Command::new(test)
        .env(CHILD, "1")
        .arg("--nocapture")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{printed}");
    assert!(printed.contains("a broker was used"), "{printed}");
    assert!(!printed.contains(FREED), "{printed}");
}

fn use_a_broker() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    drop(runtime.block_on(Embedded::start(&[])).unwrap());
    #[expect(unsafe_code, reason = "the handler is a function that lives for ever")]
    // SAFETY: the handler touches nothing of OpenSSL's.
    let registered = unsafe { OPENSSL_atexit(freed) };
    assert_eq!(registered, 1);
    eprintln!("a broker was used");
}

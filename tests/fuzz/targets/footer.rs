#![no_main]

use std::sync::Once;

#[path = "../bodies/footer.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Panics of the Parquet library on forged bytes are caught where it is called, but libFuzzer's
    // hook would count them all the same. A panic that is not caught ends the run without the hook
    // too.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    target::body(bytes);
});

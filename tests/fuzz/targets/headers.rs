#![no_main]

#[path = "../bodies/headers.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    target::body(bytes);
});

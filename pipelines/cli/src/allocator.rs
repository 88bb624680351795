//! The global allocator, mimalloc, and how soon it returns freed memory to the system.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of `mi_option_purge_delay` in mimalloc 2 and 3.
const PURGE_DELAY: c_int = 15;
/// Purge delay in milliseconds. It keeps what an update frees for the next one, and gives back what is
/// not used again before weights and moments are written. Against 10 ms, updates of a model of width
/// 256 take 10 % less time, since they do not clear their pages anew; a learner of 20 M parameters
/// holds up to 4 % more. With mimalloc's own second it holds up to 9 % more than is predicted.
const SOON: c_long = 400;

#[expect(unsafe_code, reason = "a function of the allocator that is linked")]
unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Makes mimalloc return freed memory to the system soon. Meant for processes with a user's model;
/// the few megabytes of the tiny decoder are better kept. The environment variable
/// `MIMALLOC_PURGE_DELAY` takes precedence.
pub(crate) fn give_back_soon() {
    #[expect(unsafe_code, reason = "the C function takes two integers by value")]
    // SAFETY: it writes one word of mimalloc's table of options, and checks the index.
    unsafe {
        mi_option_set_default(PURGE_DELAY, SOON);
    }
}

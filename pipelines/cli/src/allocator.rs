//! The global allocator, mimalloc, and how soon it returns freed memory to the system.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of `mi_option_purge_delay` in mimalloc 2 and 3.
const PURGE_DELAY: c_int = 15;
/// Purge delay in milliseconds. With mimalloc's own default of a second, all activations of an
/// update stay resident while weights and moments are written: 40 % more than a learner of 20 M
/// parameters holds at once, against 9 % with this value.
const SOON: c_long = 10;

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

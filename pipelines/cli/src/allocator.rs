//! mimalloc, which is told how long to keep what was freed.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3.
const PURGE_DELAY: c_int = 15;
/// Its value, in milliseconds. For a second, mimalloc's own default, all the activations of an
/// update stay resident while weights and moments are written: 40 % more than a learner of 20 M
/// parameters holds at once, against 9 % with this.
const SOON: c_long = 10;

#[expect(unsafe_code, reason = "a function of the allocator that is linked")]
unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Gives freed memory back to the system soon, for processes with a model of their user's: the
/// tiny decoder's few megabytes are better kept. `MIMALLOC_PURGE_DELAY` in the environment wins.
pub(crate) fn give_back_soon() {
    #[expect(unsafe_code, reason = "the C function takes two integers by value")]
    // SAFETY: it writes one word of mimalloc's table of options, and checks the index.
    unsafe {
        mi_option_set_default(PURGE_DELAY, SOON);
    }
}

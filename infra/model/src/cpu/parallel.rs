//! Splitting of work into pieces that depend on its shape only.
//!
//! Pieces are the same for any number of threads, each is computed in one order, and results are
//! joined in the order of the pieces. The bits therefore never depend on the number of threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Number of rows of a piece.
pub(crate) const ROWS: usize = 256;

/// Width of a row where values have none: pieces of 256 KB.
const FLAT: usize = 256;

/// Number of values that a job must touch before its pieces go to the thread pool. Smaller jobs
/// take 30 to 60 µs of one core, and handing them over costs more than it gains. The project's
/// tiny models (at most 270 000 values at once) share two cores between a sampler and a learner, so
/// a second thread gains nothing there.
const PARALLEL_VALUES: usize = 300_000;

/// Returns true if a job over `values` values is worth handing to the thread pool.
pub(crate) fn is_worth_it(values: usize) -> bool {
    values >= PARALLEL_VALUES
}

/// Runs a pass over `values` values inside the thread pool if that is worth it, so that its threads
/// stay awake from one job of the pass to the next, and what lies between the jobs runs where their
/// results are in the cache.
pub(crate) fn in_pool<T: Send>(values: usize, pass: impl FnOnce() -> T + Send) -> T {
    if is_worth_it(values) {
        rayon::scope(|_| pass())
    } else {
        pass()
    }
}

/// Runs `job(first_row, out_piece)` for pieces of [`ROWS`] rows of `out`, `width` values each.
/// `values` is the size of the whole job.
pub(crate) fn rows_in_parallel(
    out: &mut [f32],
    width: usize,
    values: usize,
    job: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    let piece = (ROWS * width).max(1);
    if is_worth_it(values) {
        out.par_chunks_mut(piece)
            .enumerate()
            .for_each(|(i, out)| job(i * ROWS, out));
    } else {
        out.chunks_mut(piece)
            .enumerate()
            .for_each(|(i, out)| job(i * ROWS, out));
    }
}

/// Returns `len` values that `job(first_row, piece)` writes, as [`rows_in_parallel`] calls it. Every
/// piece is zeros when the job gets it, which the thread that computes it has written: filling
/// fresh memory before took 2 % of an update, on one thread.
pub(crate) fn made_in_parallel(
    len: usize,
    width: usize,
    job: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> Vec<f32> {
    let mut made = Vec::with_capacity(len);
    let piece = (ROWS * width).max(1);
    let one = |(number, piece): (usize, &mut [MaybeUninit<f32>])| {
        job(number * ROWS, zeroed(piece));
    };
    if is_worth_it(len) {
        let pieces = made.spare_capacity_mut()[..len].par_chunks_mut(piece);
        pieces.enumerate().for_each(one);
    } else {
        let pieces = made.spare_capacity_mut()[..len].chunks_mut(piece);
        pieces.enumerate().for_each(one);
    }
    #[expect(unsafe_code, reason = "every value was written")]
    // SAFETY: the pieces cover `len` values, and `zeroed` has written all of each.
    unsafe {
        made.set_len(len);
    }
    made
}

/// Fills memory with zeros.
fn zeroed(piece: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    for value in &mut *piece {
        value.write(0.0);
    }
    #[expect(unsafe_code, reason = "every value was written")]
    // SAFETY: the loop has written every value; f32 and MaybeUninit<f32> have one layout.
    unsafe {
        &mut *(std::ptr::from_mut(piece) as *mut [f32])
    }
}

/// Returns `len` zeros.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    made_in_parallel(len, FLAT, |_, _| ())
}

/// Returns a copy of `values`.
pub(crate) fn copied(values: &[f32]) -> Vec<f32> {
    made_in_parallel(values.len(), FLAT, |first, piece| {
        piece.copy_from_slice(&values[first * FLAT..first * FLAT + piece.len()]);
    })
}

/// Runs `job` on every piece; `values` is the size of the whole job.
pub(crate) fn each<T: Send>(pieces: &mut [T], values: usize, job: impl Fn(&mut T) + Sync + Send) {
    if is_worth_it(values) {
        pieces.par_iter_mut().for_each(job);
    } else {
        pieces.iter_mut().for_each(job);
    }
}

/// Returns the results of `job(index)` for `0..count`, in order; `values` is the size of the whole
/// job.
pub(crate) fn map_blocks<T: Send>(
    count: usize,
    values: usize,
    job: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if is_worth_it(values) {
        (0..count).into_par_iter().map(job).collect()
    } else {
        (0..count).map(job).collect()
    }
}

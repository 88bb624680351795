//! Splitting of work into pieces that depend on its shape only.
//!
//! Pieces are the same for any number of threads, each is computed in one order, and results are
//! joined in the order of the pieces. The bits therefore never depend on the number of threads.

use rayon::prelude::*;

/// Number of rows of a piece.
pub(crate) const ROWS: usize = 256;

/// Number of values that a job must touch before its pieces go to the thread pool. Smaller jobs
/// take 50 to 100 µs of one core, and handing them over costs more than it gains. The project's
/// tiny models (at most 270 000 values at once) share two cores between a sampler and a learner, so
/// a second thread gains nothing there.
const PARALLEL_VALUES: usize = 1 << 19;

/// Returns true if a job over `values` values is worth handing to the thread pool.
pub(crate) fn is_worth_it(values: usize) -> bool {
    values >= PARALLEL_VALUES
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

//! Matrix that the pieces of one job write block by block.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

/// Matrix of contiguous rows, of which pieces of a job write different blocks at the same time.
pub(crate) struct Blocks<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    lent: PhantomData<&'a mut [f32]>,
}

#[expect(unsafe_code, reason = "pieces write disjoint blocks")]
// SAFETY: the pointer is to values that are borrowed exclusively; `row` says who may write where.
unsafe impl Sync for Blocks<'_> {}

impl<'a> Blocks<'a> {
    /// Creates a view of `[rows, columns]`.
    pub(crate) fn new(data: &'a mut [f32], columns: usize) -> Self {
        Self {
            rows: data.len() / columns.max(1),
            columns,
            data: data.as_mut_ptr(),
            lent: PhantomData,
        }
    }

    /// Calls `write(row in block, values)` for the part of every row of `rows` that lies in
    /// `columns`.
    ///
    /// # Safety
    /// No two calls at the same time name a value twice.
    #[expect(
        unsafe_code,
        reason = "the caller cuts the matrix into disjoint blocks"
    )]
    pub(crate) unsafe fn each_row(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        mut write: impl FnMut(usize, &mut [f32]),
    ) {
        assert!(
            rows.end <= self.rows && columns.end <= self.columns && columns.start <= columns.end,
            "a block outside its matrix"
        );
        for row in rows.clone() {
            // SAFETY: the range lies in the matrix, as asserted, and nobody else writes to it.
            let values = unsafe {
                let start = self.data.add(row * self.columns + columns.start);
                std::slice::from_raw_parts_mut(start, columns.len())
            };
            write(row - rows.start, values);
        }
    }
}

/// Runs `job(piece)` for `0..count`, on the thread pool if `parallel`.
pub(crate) fn each_piece(count: usize, parallel: bool, job: impl Fn(usize) + Sync + Send) {
    if parallel {
        (0..count).into_par_iter().for_each(job);
    } else {
        (0..count).for_each(job);
    }
}

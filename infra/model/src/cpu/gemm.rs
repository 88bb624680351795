//! Matrix products on slices.
//!
//! The `gemm` crate is called single-threaded on blocks whose bounds depend on the shape only, so
//! its inner blocking never depends on the number of threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::ROWS;

/// Number of values of the longest vector.
const VECTOR: usize = 16;

/// Number of multiply-adds from which a product is split into blocks for the thread pool: about 1
/// ms of one core. All products of the project's tiny models are below it.
const PARALLEL_WORK: usize = 1 << 26;

/// Number of rows or columns of a block at most. Every block packs the other factor anew: blocks of
/// 256 rows took 7 % more of a forward pass of width 256, those of 1024 no less.
const BLOCK: usize = 512;

/// Returns the length of the blocks into which rows or columns are split: [`BLOCK`] at most, whole
/// vectors, and a multiple of four blocks, so that two and four threads end together.
fn block_len(len: usize) -> usize {
    let blocks = len.div_ceil(BLOCK).next_multiple_of(4);
    len.div_ceil(blocks).next_multiple_of(VECTOR)
}

/// Read-only matrix: a slice with strides.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Creates a row-major matrix of contiguous rows.
    pub(crate) fn rows(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Creates a row-major matrix whose rows begin `stride` values apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            data,
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
        }
    }

    /// Returns the transpose without moving any values.
    pub(crate) fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    fn row_range(self, from: usize, to: usize) -> Self {
        Self {
            data: &self.data[from * self.row_stride..],
            rows: to - from,
            ..self
        }
    }

    fn col_range(self, from: usize, to: usize) -> Self {
        Self {
            data: &self.data[from * self.col_stride..],
            cols: to - from,
            ..self
        }
    }

    /// Returns the index after the last value that the matrix touches.
    fn end(self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride + 1
    }
}

/// Matrix to write, with contiguous rows.
pub(crate) struct MatMut<'a> {
    data: &'a mut [MaybeUninit<f32>],
    rows: usize,
    cols: usize,
}

impl<'a> MatMut<'a> {
    /// Creates a view over initialized values.
    pub(crate) fn rows(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        #[expect(unsafe_code, reason = "f32 and MaybeUninit<f32> have one layout")]
        // SAFETY: only this module writes through the view, and it writes values.
        let data = unsafe { &mut *(std::ptr::from_mut(data) as *mut [MaybeUninit<f32>]) };
        Self { data, rows, cols }
    }
}

/// Computes out = a·b, or out += a·b if `accumulate`.
pub(crate) fn matmul(mut out: MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let work = out.rows * out.cols * a.cols;
    if work < PARALLEL_WORK {
        single(&mut out, a, b, accumulate);
    } else if out.rows >= 2 * ROWS || out.rows >= out.cols {
        row_blocks(out, a, b, accumulate);
    } else {
        column_blocks(out, a, b, accumulate);
    }
}

/// Computes a·b, row-major, without first filling the memory with zeros, which alone would take a
/// tenth of a training step of the tiny model.
pub(crate) fn product(a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    let (rows, cols) = (a.rows, b.cols);
    let mut out = Vec::with_capacity(rows * cols);
    let data = &mut out.spare_capacity_mut()[..rows * cols];
    matmul(MatMut { data, rows, cols }, a, b, false);
    #[expect(unsafe_code, reason = "the product wrote every value")]
    // SAFETY: `matmul` without `accumulate` reads nothing of `out` and writes rows × cols values
    // from its start: gemm's contract, also where the inner dimension is 0.
    unsafe {
        out.set_len(rows * cols);
    }
    out
}

fn row_blocks(out: MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let MatMut { data, rows, cols } = out;
    let len = block_len(rows);
    let blocks = data[..rows * cols].par_chunks_mut(len * cols);
    blocks.enumerate().for_each(|(block, data)| {
        let from = block * len;
        let to = (from + len).min(rows);
        let mut out = MatMut {
            data,
            rows: to - from,
            cols,
        };
        single(&mut out, a.row_range(from, to), b, accumulate);
    });
}

/// Computes products of few rows and many columns, such as a sampler's wide projections. Every
/// block is computed in a buffer of its own and then copied, because columns of rows are not
/// contiguous slices.
fn column_blocks(out: MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let MatMut { data, rows, cols } = out;
    let len = block_len(cols);
    let blocks: Vec<_> = (0..cols.div_ceil(len))
        .into_par_iter()
        .map(|block| {
            let from = block * len;
            let to = (from + len).min(cols);
            let mut part = vec![0.0; rows * (to - from)];
            let mut out = MatMut::rows(&mut part, rows, to - from);
            single(&mut out, a, b.col_range(from, to), false);
            (from, to, part)
        })
        .collect();
    for (from, to, part) in blocks {
        for (row, part) in part.chunks_exact(to - from).enumerate() {
            let out = &mut data[row * cols + from..row * cols + to];
            for (out, part) in out.iter_mut().zip(part) {
                #[expect(unsafe_code, reason = "an accumulating caller passed values")]
                // SAFETY: `accumulate` is true only for a MatMut made from a slice of f32.
                let before = if accumulate {
                    unsafe { out.assume_init() }
                } else {
                    0.0
                };
                out.write(before + part);
            }
        }
    }
}

fn single(out: &mut MatMut<'_>, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let (m, n, k) = (out.rows, out.cols, a.cols);
    assert!(
        a.rows == m && b.rows == k && b.cols == n,
        "matrix shapes disagree"
    );
    assert!(m * n <= out.data.len(), "output too short");
    assert!(
        a.end() <= a.data.len() && b.end() <= b.data.len(),
        "operand too short"
    );
    #[expect(
        unsafe_code,
        reason = "gemm takes pointers; the bounds are asserted above"
    )]
    // SAFETY: every index gemm forms is (row·row_stride + col·col_stride) with row and col below
    // the asserted shapes, inside the three slices; `out` is borrowed exclusively, so it overlaps
    // neither operand. Where `accumulate` lets gemm read `out`, it holds values.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr().cast::<f32>(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    fn naive(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
        let element = |at: usize| {
            (0..k)
                .map(|p| f64::from(a[at / n * k + p]) * f64::from(b[p * n + at % n]))
                .sum::<f64>()
        };
        (0..m * n).map(|at| element(at) as f32).collect()
    }

    fn close(a: &[f32], b: &[f32]) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    #[test]
    fn every_way_of_cutting_agrees_with_the_definition() {
        // Small; tall (row blocks); wide (column blocks).
        for (m, n, k) in [(3, 5, 7), (600, 400, 300), (40, 4000, 450)] {
            let (a, b) = (values(m * k), values(k * n));
            let expected = naive(&a, &b, m, n, k);
            let mut out = vec![9.0; m * n];
            let (a, b) = (Mat::rows(&a, m, k), Mat::rows(&b, k, n));
            matmul(MatMut::rows(&mut out, m, n), a, b, false);
            close(&out, &expected);
            matmul(MatMut::rows(&mut out, m, n), a, b, true);
            let doubled: Vec<_> = expected.iter().map(|x| 2.0 * x).collect();
            close(&out, &doubled);
        }
    }

    #[test]
    fn transposed_and_strided_operands() {
        let (m, n, k) = (4, 3, 6);
        let (a, b) = (values(m * k), values(k * n));
        let expected = naive(&a, &b, m, n, k);
        let mut a_t = vec![0.0; m * k];
        for i in 0..m * k {
            a_t[i % k * m + i / k] = a[i];
        }
        let mut b_wide = vec![7.0; k * (n + 2)];
        for i in 0..k * n {
            b_wide[i / n * (n + 2) + i % n] = b[i];
        }
        let (a, b) = (
            Mat::rows(&a_t, k, m).t(),
            Mat::strided(&b_wide, k, n, n + 2),
        );
        close(&product(a, b), &expected);
    }

    #[test]
    #[should_panic(expected = "operand too short")]
    fn a_short_operand_is_caught() {
        let mut out = [0.0; 4];
        matmul(
            MatMut::rows(&mut out, 2, 2),
            Mat::rows(&[1.0; 3], 2, 2),
            Mat::rows(&[1.0; 4], 2, 2),
            false,
        );
    }
}

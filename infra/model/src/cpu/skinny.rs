//! Products of few rows with a weight `[out, in]` as it lies in memory, for sampling.
//!
//! Every value is one sum of products over 16 lanes in one order, so its bits depend on its own row
//! and column only: not on the number of rows, the cut into pieces, the threads or the instruction
//! set. The weight is read once for all rows of a piece and is never packed.

use super::multiversion;
use super::vector::{self, Block, LANES};
#[cfg(target_arch = "x86_64")]
use super::{Isa, isa};

/// Computes `out[row · columns + column] = x[row] · weight[column]`, for rows and columns of `k`
/// values.
pub(crate) fn dots(x: &[f32], weight: &[f32], k: usize, out: &mut [f32]) {
    let (rows, columns) = (x.len() / k, weight.len() / k);
    assert!(
        x.len() == rows * k && weight.len() == columns * k && out.len() == rows * columns,
        "shapes of a product disagree"
    );
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::V4 {
        #[expect(
            unsafe_code,
            reason = "the features were detected, the shapes asserted"
        )]
        // SAFETY: `isa` is V4 only where AVX-512 was detected; the lengths are those asserted above.
        unsafe {
            wide::dots(x, weight, k, out);
        }
        return;
    }
    narrow(x, weight, k, out);
}

multiversion! {
    /// Computes what [`dots`] does, four columns at a time.
    fn narrow(x: &[f32], weight: &[f32], k: usize, out: &mut [f32]) {
        let columns = weight.len() / k;
        for (quad, weight) in weight.chunks(4 * k).enumerate() {
            // The last columns are repeated where a quad is not full; extra sums are not kept.
            let full = weight.len() / k;
            let column = |c: usize| &weight[c.min(full - 1) * k..][..k];
            let w = [column(0), column(1), column(2), column(3)];
            for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(columns)) {
                let sums = quad_of(x, w);
                out[4 * quad..4 * quad + full].copy_from_slice(&sums[..full]);
            }
        }
    }
}

/// Returns the products of one row with four columns.
#[inline(always)]
fn quad_of(x: &[f32], w: [&[f32]; 4]) -> [f32; 4] {
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let parts = w.map(|w| w.as_chunks::<LANES>());
    let mut sums: [Block; 4] = [[0.0; LANES]; 4];
    for (i, x) in x_blocks.iter().enumerate() {
        for c in 0..4 {
            sums[c] = vector::fma(*x, parts[c].0[i], sums[c]);
        }
    }
    if !x_rest.is_empty() {
        let x = padded(x_rest);
        for c in 0..4 {
            sums[c] = vector::fma(x, padded(parts[c].1), sums[c]);
        }
    }
    sums.map(vector::reduce)
}

#[inline(always)]
fn padded(rest: &[f32]) -> Block {
    let mut block = [0.0; LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Kernel in AVX-512: six rows times four columns are held in 24 registers.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions read through pointers")]
mod wide {
    use std::arch::x86_64::{
        __m512, _MM_HINT_T0, _mm_prefetch, _mm_storeu_ps, _mm512_add_ps, _mm512_castps512_ps128,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_permutexvar_ps,
        _mm512_setr_epi32, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps,
    };

    use super::LANES;

    /// Number of rows of a tile.
    const ROWS: usize = 6;

    /// Computes what [`super::dots`] does.
    ///
    /// # Safety
    /// The CPU has AVX-512; `x` and `weight` hold whole rows of `k` values, and `out` a value for
    /// every pair of them.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
    pub(super) unsafe fn dots(x: &[f32], weight: &[f32], k: usize, out: &mut [f32]) {
        let (rows, columns) = (x.len() / k, weight.len() / k);
        let end = weight.len();
        for from in (0..columns).step_by(4) {
            let count = (columns - from).min(4);
            // SAFETY: every pointer is to a whole row of `x` or `weight`, as the caller promises.
            unsafe {
                let w =
                    [0, 1, 2, 3].map(|c: usize| weight.as_ptr().add((from + c.min(count - 1)) * k));
                // The tile after this one, for the prefetches of a first row tile.
                let next = weight.as_ptr().add((4 * k).min(end - from * k) + from * k);
                let mut row = 0;
                while row < rows {
                    let tile = Tile {
                        x: x.as_ptr().add(row * k),
                        w,
                        k,
                        next: if row == 0 { next } else { std::ptr::null() },
                    };
                    let out = &mut out[row * columns + from..];
                    let left = rows - row;
                    match left {
                        1 => tile.run::<1>(out, columns, count),
                        2 => tile.run::<2>(out, columns, count),
                        3 => tile.run::<3>(out, columns, count),
                        4 => tile.run::<4>(out, columns, count),
                        5 => tile.run::<5>(out, columns, count),
                        _ => tile.run::<6>(out, columns, count),
                    }
                    row += left.min(ROWS);
                }
            }
        }
    }

    /// Repeats a block for every row of a tile, with the row as a constant: sums that are indexed by a
    /// variable would be kept in memory.
    macro_rules! each {
        ($rows:ident, $row:ident => $block:block) => {
            each!($rows, $row, $block, 0 1 2 3 4 5);
        };
        ($rows:ident, $row:ident, $block:block, $($number:literal)*) => {
            $(if $rows > $number {
                // The modulo is for tiles of fewer rows, which the condition leaves out.
                let $row = $number % $rows;
                $block
            })*
        };
    }

    /// Adds the products of a row with four columns to their sums.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
    #[inline]
    fn multiplied(x: __m512, w: [__m512; 4], [a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        [
            _mm512_fmadd_ps(x, w[0], a),
            _mm512_fmadd_ps(x, w[1], b),
            _mm512_fmadd_ps(x, w[2], c),
            _mm512_fmadd_ps(x, w[3], d),
        ]
    }

    /// Rows of `x` and four rows of the weight.
    struct Tile {
        x: *const f32,
        w: [*const f32; 4],
        k: usize,
        /// Weight of the next tile, which is fetched meanwhile; null for none.
        next: *const f32,
    }

    impl Tile {
        /// Writes `count` products of each of `R` rows to `out`, whose rows are `stride` apart.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
        #[inline]
        unsafe fn run<const R: usize>(&self, out: &mut [f32], stride: usize, count: usize) {
            let mut sums = [[_mm512_setzero_ps(); 4]; R];
            let whole = self.k / LANES * LANES;
            let mut at = 0;
            // SAFETY: `at + LANES` never passes `k`, the length of every row; the rest is masked.
            // A prefetch may name any address.
            unsafe {
                while at < whole {
                    let [a, b, c, d] = self.w;
                    let w = [
                        _mm512_loadu_ps(a.add(at)),
                        _mm512_loadu_ps(b.add(at)),
                        _mm512_loadu_ps(c.add(at)),
                        _mm512_loadu_ps(d.add(at)),
                    ];
                    if !self.next.is_null() {
                        for c in 0..4 {
                            let next = self.next.wrapping_add(c * self.k + at);
                            _mm_prefetch::<_MM_HINT_T0>(next.cast());
                        }
                    }
                    each!(R, r => {
                        let x = _mm512_loadu_ps(self.x.add(r * self.k + at));
                        sums[r] = multiplied(x, w, sums[r]);
                    });
                    at += LANES;
                }
                if at < self.k {
                    let mask = (1_u16 << (self.k - at)) - 1;
                    let [a, b, c, d] = self.w;
                    let w = [
                        _mm512_maskz_loadu_ps(mask, a.add(at)),
                        _mm512_maskz_loadu_ps(mask, b.add(at)),
                        _mm512_maskz_loadu_ps(mask, c.add(at)),
                        _mm512_maskz_loadu_ps(mask, d.add(at)),
                    ];
                    each!(R, r => {
                        let x = _mm512_maskz_loadu_ps(mask, self.x.add(r * self.k + at));
                        sums[r] = multiplied(x, w, sums[r]);
                    });
                }
            }
            each!(R, r => {
                let mut four = [0.0_f32; 4];
                // SAFETY: `four` has room for four values.
                unsafe {
                    _mm_storeu_ps(four.as_mut_ptr(), _mm512_castps512_ps128(reduced(sums[r])));
                }
                out[r * stride..r * stride + count].copy_from_slice(&four[..count]);
            });
        }
    }

    /// Returns the four sums of lanes in the first four lanes, added in the order of
    /// `vector::reduce`: halves first.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
    #[inline]
    fn reduced([a, b, c, d]: [__m512; 4]) -> __m512 {
        let ab = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0x44>(a, b),
            _mm512_shuffle_f32x4::<0xEE>(a, b),
        );
        let cd = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0x44>(c, d),
            _mm512_shuffle_f32x4::<0xEE>(c, d),
        );
        // Four lanes of each.
        let all = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0x88>(ab, cd),
            _mm512_shuffle_f32x4::<0xDD>(ab, cd),
        );
        let all = _mm512_add_ps(all, _mm512_shuffle_ps::<0b01_00_11_10>(all, all));
        let all = _mm512_add_ps(all, _mm512_shuffle_ps::<0b10_11_00_01>(all, all));
        let first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        _mm512_permutexvar_ps(first, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0)
            .collect()
    }

    /// A value has the same bits alone and among others, in the kernel of this CPU and in the plain
    /// one, and is close to the sum in f64.
    #[test]
    fn bits_depend_on_row_and_column_only() {
        for k in [1, 15, 16, 33, 64, 176, 576] {
            for (rows, columns) in [(1, 1), (2, 5), (5, 4), (6, 7), (13, 9), (64, 33)] {
                let (x, weight) = (values(rows * k, 1), values(columns * k, 2));
                let mut out = vec![0.0; rows * columns];
                dots(&x, &weight, k, &mut out);
                let mut plain = vec![0.0; rows * columns];
                narrow(&x, &weight, k, &mut plain);
                for (at, value) in out.iter().enumerate() {
                    let x = &x[at / columns * k..][..k];
                    let weight = &weight[at % columns * k..][..k];
                    let mut alone = [0.0];
                    dots(x, weight, k, &mut alone);
                    assert_eq!(value.to_bits(), alone[0].to_bits(), "{k} {rows} {columns}");
                    assert_eq!(value.to_bits(), plain[at].to_bits(), "{k} {rows} {columns}");
                    let products = x.iter().zip(weight);
                    let exact: f64 = products.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    assert!((f64::from(*value) - exact).abs() < 1e-4, "{value} {exact}");
                }
            }
        }
    }
}

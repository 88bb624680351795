//! Key-value cache of a batch's rows, laid out for one query at a time. Keys are stored in blocks of
//! 16 with the dimension outside, so that one register holds a dimension of 16 keys; values are
//! stored in rows padded to whole registers. A row has memory for the blocks that it has filled.

use rayon::prelude::*;

use super::Heads;
use super::short::{exponentials, scores};
use crate::cpu::vector::{Block, LANES, fma};
use crate::cpu::{is_worth_it, multiversion};

/// Key-value cache of one layer.
pub(crate) struct Cache {
    heads: Heads,
    rows: Vec<Row>,
}

/// Keys and values of one row.
#[derive(Default)]
struct Row {
    /// Keys, `[block of keys, key head, dimension][key]`.
    keys: Vec<Block>,
    /// Values, `[block of keys, key head, key in block, block of dimensions][dimension]`.
    values: Vec<Block>,
}

/// Query row of a step: the row whose cache it reads, and how many keys of it are visible.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    pub(crate) row: usize,
    pub(crate) visible: usize,
}

impl Cache {
    /// Creates a cache without rows.
    pub(crate) fn new(heads: Heads) -> Self {
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    /// Makes `row` an empty one, which will hold `keys` keys at most.
    pub(crate) fn open(&mut self, row: usize, keys: usize) {
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, Row::default);
        }
        let Heads { key, width, .. } = self.heads;
        let blocks = keys.div_ceil(LANES);
        // Only addresses are reserved: the system gives memory for what is written.
        self.rows[row] = Row {
            keys: Vec::with_capacity(blocks * key * width),
            values: Vec::with_capacity(blocks * key * LANES * width.div_ceil(LANES)),
        };
    }

    /// Frees the memory of `row`.
    pub(crate) fn close(&mut self, row: usize) {
        self.rows[row] = Row::default();
    }

    /// Stores keys and values `[n, key heads · width]` of `row`, starting at position `from`, up to
    /// which the row is filled.
    pub(crate) fn store(&mut self, row: usize, from: usize, k: &[f32], v: &[f32]) {
        let Heads {
            key: heads, width, ..
        } = self.heads;
        let dims = width.div_ceil(LANES);
        let stride = heads * width;
        let row = &mut self.rows[row];
        let blocks = (from + k.len() / stride).div_ceil(LANES);
        row.keys.resize(blocks * heads * width, [0.0; LANES]);
        row.values
            .resize(blocks * heads * LANES * dims, [0.0; LANES]);
        for (i, (k, v)) in k
            .chunks_exact(stride)
            .zip(v.chunks_exact(stride))
            .enumerate()
        {
            let (block, lane) = ((from + i) / LANES, (from + i) % LANES);
            for head in 0..heads {
                let at = (block * heads + head) * width;
                let keys = &mut row.keys[at..at + width];
                let k = &k[head * width..(head + 1) * width];
                keys.iter_mut().zip(k).for_each(|(keys, k)| keys[lane] = *k);
                let at = ((block * heads + head) * LANES + lane) * dims;
                let values = row.values[at..at + dims].as_flattened_mut();
                values[..width].copy_from_slice(&v[head * width..(head + 1) * width]);
            }
        }
    }

    /// Computes attention of `q [readers, heads·width]`, which has one row per reader.
    pub(crate) fn attend(&self, q: &[f32], readers: &[Reader]) -> Vec<f32> {
        let stride = self.heads.query * self.heads.width;
        let mut out = vec![0.0; q.len()];
        let work: usize = readers
            .iter()
            .map(|reader| reader.visible * stride / LANES * 2)
            .sum();
        let one = |((reader, q), out): ((&Reader, &[f32]), &mut [f32])| {
            attend_row(self, *reader, q, out);
        };
        // A score of a single query costs about sixteen times what copying a value does.
        if is_worth_it(16 * work) {
            let rows = readers.par_iter().zip(q.par_chunks_exact(stride));
            rows.zip(out.par_chunks_exact_mut(stride)).for_each(one);
        } else {
            let rows = readers.iter().zip(q.chunks_exact(stride));
            rows.zip(out.chunks_exact_mut(stride)).for_each(one);
        }
        out
    }
}

multiversion! {
    fn attend_row(cache: &Cache, reader: Reader, q: &[f32], out: &mut [f32]) {
        let heads = cache.heads;
        let width = heads.width;
        let dims = width.div_ceil(LANES);
        let held = &cache.rows[reader.row];
        let blocks = 0..reader.visible.div_ceil(LANES);
        let mut p = vec![[0.0; LANES]; blocks.len()];
        for (head, (q, out)) in q.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let key_head = head / heads.group();
            for (p, block) in p.iter_mut().zip(blocks.clone()) {
                let at = (block * heads.key + key_head) * width;
                *p = scores(q, &held.keys[at..at + width]);
            }
            let (_, sum) = exponentials(&mut p, reader.visible, heads.scale());
            let reciprocal = 1.0 / sum;
            for (dim, out) in out.chunks_mut(LANES).enumerate() {
                // Four independent chains hide the latency of the multiply-adds.
                let mut chains = [[0.0; LANES]; 4];
                for (i, block) in blocks.clone().enumerate() {
                    let at = (block * heads.key + key_head) * LANES * dims;
                    let values = &held.values[at..at + LANES * dims];
                    let shown = (reader.visible - i * LANES).min(LANES);
                    for lane in 0..shown {
                        let chain = lane % 4;
                        let row = values[lane * dims + dim];
                        chains[chain] = fma([p[i][lane]; LANES], row, chains[chain]);
                    }
                }
                let len = out.len();
                let mut total = [0.0; LANES];
                for l in 0..LANES {
                    let sum = (chains[0][l] + chains[1][l]) + (chains[2][l] + chains[3][l]);
                    total[l] = sum * reciprocal;
                }
                out.copy_from_slice(&total[..len]);
            }
        }
    }
}

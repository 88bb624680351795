use candle_core::Tensor;

use super::cache::{Cache, Reader};
use super::*;
use crate::ops::storage::tensor;

fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919 + seed * 104_729 + i * i % 31) % 2003) as f32 / 900.0 - 1.1)
        .collect()
}

struct Case {
    heads: Heads,
    pattern: Pattern,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Case {
    /// Creates sequences of `lens` keys. Among the first `asking` positions of each, every
    /// `step`-th is a query.
    fn new(heads: Heads, lens: &[usize], step: usize, asking: usize) -> Self {
        let (mut segments, mut visible, mut keys) = (Vec::new(), Vec::new(), 0);
        for &len in lens {
            let from = visible.len();
            visible.extend(
                (0..len.min(asking) as u32)
                    .filter(|i| *i as usize % step == step - 1)
                    .map(|i| i + 1),
            );
            segments.push(Segment {
                queries: from..visible.len(),
                before: 0..0,
                keys: keys..keys + len,
            });
            keys += len;
        }
        let width = heads.width;
        Self {
            q: noise(visible.len() * heads.query * width, 1),
            k: noise(keys * heads.key * width, 2),
            v: noise(keys * heads.key * width, 3),
            heads,
            pattern: Pattern { segments, visible },
        }
    }

    fn tensors(&self) -> [Tensor; 3] {
        let Heads { query, key, width } = self.heads;
        let (q, k) = (query * width, key * width);
        [
            tensor(self.q.clone(), &[self.q.len() / q, q]).unwrap(),
            tensor(self.k.clone(), &[self.k.len() / k, k]).unwrap(),
            tensor(self.v.clone(), &[self.v.len() / k, k]).unwrap(),
        ]
    }

    /// Returns output and gradients by the definition, in f64: `[out, dq, dk, dv]`.
    fn reference(&self, dout: &[f32]) -> [Vec<f64>; 4] {
        let Heads { query, key, width } = self.heads;
        let (stride, key_stride) = (query * width, key * width);
        let mut out = vec![0.0; self.q.len()];
        let mut dq = vec![0.0; self.q.len()];
        let mut dk = vec![0.0; self.k.len()];
        let mut dv = vec![0.0; self.k.len()];
        let scale = 1.0 / (width as f64).sqrt();
        for segment in &self.pattern.segments {
            for i in segment.queries.clone() {
                for head in 0..query {
                    let at = i * stride + head * width;
                    let seen =
                        segment.keys.start..segment.keys.start + self.pattern.visible[i] as usize;
                    let place = |j: usize| j * key_stride + head / (query / key) * width;
                    let dot = |a: &[f32], b: &[f32]| -> f64 {
                        a.iter()
                            .zip(b)
                            .map(|(a, b)| f64::from(*a) * f64::from(*b))
                            .sum()
                    };
                    let (q, dout) = (&self.q[at..at + width], &dout[at..at + width]);
                    let e: Vec<f64> = seen
                        .clone()
                        .map(|j| (scale * dot(q, &self.k[place(j)..])).exp())
                        .collect();
                    let sum: f64 = e.iter().sum();
                    let p: Vec<f64> = e.iter().map(|e| e / sum).collect();
                    let dp: Vec<f64> = seen
                        .clone()
                        .map(|j| dot(dout, &self.v[place(j)..]))
                        .collect();
                    let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                    for (n, j) in seen.enumerate() {
                        let ds = p[n] * (dp[n] - delta) * scale;
                        for d in 0..width {
                            out[at + d] += p[n] * f64::from(self.v[place(j) + d]);
                            dq[at + d] += ds * f64::from(self.k[place(j) + d]);
                            dk[place(j) + d] += ds * f64::from(q[d]);
                            dv[place(j) + d] += p[n] * f64::from(dout[d]);
                        }
                    }
                }
            }
        }
        [out, dq, dk, dv]
    }
}

fn close(what: &str, ours: &Tensor, expected: &[f64]) {
    let ours = values(ours).unwrap();
    assert_eq!(ours.len(), expected.len());
    let top = expected.iter().fold(0.0_f64, |top, x| top.max(x.abs()));
    for (ours, expected) in ours.iter().zip(expected) {
        let error = (f64::from(*ours) - expected).abs();
        assert!(error <= 3e-6 * top, "{what}: {ours} {expected}");
    }
}

#[test]
fn both_kernels_match_the_definition() {
    let shapes = [
        (4, 4, 16),
        (4, 2, 8),
        (6, 1, 20),
        (2, 1, 32),
        (2, 2, 64),
        (2, 1, 128),
        (2, 1, 136),
    ];
    for (query, key, width) in shapes {
        let heads = Heads { query, key, width };
        for (lens, step, asking) in [
            (vec![1, 13, 2, 16, 17, 64], 1, 64),
            (vec![65, 3, 150], 1, 150),
            (vec![30, 4, 100], 3, 100),
            (vec![90, 40, 70], 2, 30),
            (vec![90, 40], 1, 0),
        ] {
            let case = Case::new(heads, &lens, step, asking);
            let name = format!("{heads:?} {lens:?} {step} {asking}");
            let [q, k, v] = case.tensors();
            let dout = noise(case.q.len(), 4);
            let [out, dq, dk, dv] = case.reference(&dout);
            let attended = forward(&q, &k, &v, heads, &case.pattern).unwrap();
            close(&name, &attended.out, &out);
            let dout = tensor(dout, q.dims()).unwrap();
            let grads = backward(&dout, (&q, &k, &v), &attended, heads, &case.pattern).unwrap();
            close(&name, &grads.dq, &dq);
            close(&name, &grads.dk, &dk);
            close(&name, &grads.dv, &dv);
        }
    }
}

#[test]
fn the_cache_matches_the_definition() {
    for (query, key, width) in [(4, 4, 16), (4, 2, 8), (6, 1, 20), (2, 1, 136)] {
        let heads = Heads { query, key, width };
        let lens = [5, 40, 1, 16];
        let case = Case::new(heads, &lens, 1, 64);
        let [out, ..] = case.reference(&noise(case.q.len(), 4));
        let stride = key * width;
        let mut cache = Cache::new(heads);
        let (mut readers, mut q, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (row, segment) in case.pattern.segments.iter().enumerate() {
            // Stored in two parts, like prompt and completion.
            let (from, to) = (segment.keys.start, segment.keys.end);
            cache.open(row, lens[row]);
            for (from, to) in [(from, from + lens[row] / 2), (from + lens[row] / 2, to)] {
                let part = from * stride..to * stride;
                let place = from - segment.keys.start;
                cache.store(row, place, &case.k[part.clone()], &case.v[part]);
            }
            let last = (segment.queries.end - 1) * query * width;
            readers.push(Reader {
                row,
                visible: lens[row],
            });
            q.extend_from_slice(&case.q[last..last + query * width]);
            expected.extend_from_slice(&out[last..last + query * width]);
        }
        // A row that has left the batch is skipped.
        readers.remove(0);
        cache.close(0);
        let q = q.split_off(query * width);
        let out = tensor(cache.attend(&q, &readers), &[3, query * width]).unwrap();
        close("cache", &out, &expected[query * width..]);
    }
}

//! Reference decoder in f64, token by token: slow and simple.

use std::collections::BTreeMap;

use vintage_model::{DecoderConfig, ParamSet};

pub(crate) type Params = BTreeMap<String, Vec<f64>>;

pub(crate) fn params(params: &ParamSet) -> Params {
    params
        .specs()
        .iter()
        .map(|spec| {
            let values = params.values(spec.name()).unwrap();
            (
                spec.name().to_owned(),
                values.iter().map(|&value| f64::from(value)).collect(),
            )
        })
        .collect()
}

fn matvec(weight: &[f64], x: &[f64]) -> Vec<f64> {
    weight
        .chunks(x.len())
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}

fn rmsnorm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter()
        .zip(weight)
        .map(|(x, w)| w * x / (mean + eps).sqrt())
        .collect()
}

fn frequency(config: &DecoderConfig, pair: usize) -> f64 {
    let plain = config
        .rope_theta
        .powf(-2.0 * pair as f64 / config.head_dim as f64);
    let Some(scaling) = config.rope_scaling else {
        return plain;
    };
    let original = scaling.original_max_position_embeddings as f64;
    let turns = original * plain / std::f64::consts::TAU;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    plain * (kept + (1.0 - kept) / scaling.factor)
}

struct Model<'a> {
    config: &'a DecoderConfig,
    params: &'a Params,
}

impl Model<'_> {
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mut y = matvec(&self.params[&format!("{name}.weight")], x);
        if let Some(bias) = self.params.get(&format!("{name}.bias")) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        y
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        rmsnorm(
            x,
            &self.params[&format!("{name}.weight")],
            self.config.rms_norm_eps,
        )
    }

    /// Returns the heads of one projection, normalized if the model does so, and rotated.
    fn heads(&self, layer: &str, which: &str, x: &[f64], position: usize) -> Vec<Vec<f64>> {
        let width = self.config.head_dim;
        let mut heads = Vec::new();
        for head in self
            .linear(&format!("{layer}.self_attn.{which}_proj"), x)
            .chunks(width)
        {
            let norm = format!("{layer}.self_attn.{which}_norm");
            let normed = self.params.contains_key(&format!("{norm}.weight"));
            let head = if normed {
                self.norm(&norm, head)
            } else {
                head.to_vec()
            };
            let mut rotated = head.clone();
            for pair in 0..width / 2 {
                let (sin, cos) = (position as f64 * frequency(self.config, pair)).sin_cos();
                let (a, b) = (head[pair], head[pair + width / 2]);
                rotated[pair] = a * cos - b * sin;
                rotated[pair + width / 2] = b * cos + a * sin;
            }
            heads.push(rotated);
        }
        heads
    }

    fn layer(&self, number: usize, x: &mut [Vec<f64>]) {
        let name = format!("model.layers.{number}");
        let width = self.config.head_dim;
        let group = self.config.num_attention_heads / self.config.num_key_value_heads;
        let mut keys = Vec::new();
        let mut values: Vec<Vec<f64>> = Vec::new();
        for (position, x) in x.iter_mut().enumerate() {
            let normed = self.norm(&format!("{name}.input_layernorm"), x);
            keys.push(self.heads(&name, "k", &normed, position));
            values.push(self.linear(&format!("{name}.self_attn.v_proj"), &normed));
            let mut mixed = Vec::new();
            for (head, q) in self.heads(&name, "q", &normed, position).iter().enumerate() {
                let key_head = head / group;
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|k| q.iter().zip(&k[key_head]).map(|(q, k)| q * k).sum::<f64>())
                    .map(|score| (score / (width as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = scores.iter().sum();
                for d in key_head * width..(key_head + 1) * width {
                    mixed.push(
                        scores
                            .iter()
                            .zip(&values)
                            .map(|(s, v)| s / sum * v[d])
                            .sum(),
                    );
                }
            }
            let out = self.linear(&format!("{name}.self_attn.o_proj"), &mixed);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            let normed = self.norm(&format!("{name}.post_attention_layernorm"), x);
            let gate = self.linear(&format!("{name}.mlp.gate_proj"), &normed);
            let up = self.linear(&format!("{name}.mlp.up_proj"), &normed);
            let hidden: Vec<f64> = gate
                .iter()
                .zip(up)
                .map(|(g, up)| g / (1.0 + (-g).exp()) * up)
                .collect();
            let out = self.linear(&format!("{name}.mlp.down_proj"), &hidden);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
        }
    }
}

/// Returns the logits `[len][vocab]` of one sequence.
pub(crate) fn logits(config: &DecoderConfig, params: &Params, tokens: &[u32]) -> Vec<Vec<f64>> {
    let model = Model { config, params };
    let width = config.hidden_size;
    let table = &params["model.embed_tokens.weight"];
    let mut x: Vec<Vec<f64>> = tokens
        .iter()
        .map(|&t| table[t as usize * width..][..width].to_vec())
        .collect();
    for number in 0..config.num_hidden_layers {
        model.layer(number, &mut x);
    }
    let head = params.get("lm_head.weight").unwrap_or(table);
    x.iter()
        .map(|x| matvec(head, &model.norm("model.norm", x)))
        .collect()
}

/// Returns the log-prob of `token` and the entropy of softmax(logits/temperature).
pub(crate) fn log_prob(logits: &[f64], token: u32, temperature: f64) -> (f64, f64) {
    let z: Vec<f64> = logits.iter().map(|logit| logit / temperature).collect();
    let top = z.iter().copied().fold(f64::MIN, f64::max);
    let lse = top + z.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
    let entropy = z.iter().map(|z| -(z - lse) * (z - lse).exp()).sum();
    (z[token as usize] - lse, entropy)
}

use std::{path::PathBuf, sync::Arc};

use tokio::task::spawn_blocking;
use vintage_control::Name;
use vintage_model::{Decoder, ModelFolder, Packed};

use crate::{
    error::Error,
    roll::{Source, roll},
    texts::{Texts, model},
};

/// Largest number of logits that are held at a time while the likeliest tokens are looked for.
const LOGITS: usize = 1 << 26;

/// Model in this process, for callers that complete token ids: its decoder, tokenizer and chat
/// template. Clones share both.
#[derive(Clone)]
pub struct LocalModel {
    pub(crate) texts: Arc<Texts>,
    pub(crate) decoder: Arc<Decoder>,
}

/// Tokens with their log-probs at one place of a completion, the likeliest first.
pub type Likeliest = Vec<(u32, f32)>;

impl LocalModel {
    /// Opens a Hugging Face folder, or `hf://NAME[@REVISION]` from the local cache. Errors about
    /// texts name the model as `policy`.
    pub async fn open(path: PathBuf, policy: Name) -> Result<Self, Error> {
        let attempted = format!("open the model {}", path.display());
        let opened = spawn_blocking(move || {
            let folder = ModelFolder::open(path)?;
            let texts = Texts::of(policy, &folder, Vec::new());
            Ok((texts, Decoder::new(folder.config, folder.params)?))
        });
        let (texts, decoder) = opened.await?.map_err(model(attempted))?;
        Ok(Self {
            texts: Arc::new(texts),
            decoder: Arc::new(decoder),
        })
    }

    /// Returns the model with the weights of a folder, and its own tokenizer and chat template.
    ///
    /// # Errors
    /// The folder cannot be opened, or holds a model of another shape.
    pub async fn with_weights_of(&self, path: PathBuf) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let attempted = format!("load the weights in {shown}");
        let opened = spawn_blocking(move || ModelFolder::open(path));
        let folder = opened.await?.map_err(model(attempted.clone()))?;
        if folder.config != *self.decoder.config() {
            return Err(Error::OtherShape { folder: shown });
        }
        let decoder = Decoder::new(folder.config, folder.params).map_err(model(attempted))?;
        Ok(Self {
            texts: Arc::clone(&self.texts),
            decoder: Arc::new(decoder),
        })
    }

    /// Tokenizer, chat template and shape of the model.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Samples what `source` gives, in one continuous batch on a blocking thread, until it gives
    /// nothing more; returns the source with what became of the batch.
    pub async fn sample<S: Source + 'static>(
        &self,
        mut source: S,
    ) -> Result<(S, Result<(), Error>), Error> {
        let decoder = Arc::clone(&self.decoder);
        let sampled = spawn_blocking(move || {
            let outcome = roll(&decoder, &mut source);
            (source, outcome)
        });
        let (source, outcome) = sampled.await?;
        Ok((source, outcome.map_err(model("sample"))))
    }

    /// Computes the `count` likeliest tokens at the place of each sampled token, with their log-probs
    /// at `temperature` over the whole vocabulary, on this thread.
    pub fn likeliest(
        &self,
        prompt: &[u32],
        sampled: &[u32],
        temperature: f32,
        count: usize,
    ) -> Result<Vec<Likeliest>, Error> {
        let first = prompt.len().saturating_sub(1) as u32;
        let places: Vec<u32> = (first..first + sampled.len() as u32).collect();
        // The last sampled token is a target only.
        let before = &sampled[..sampled.len().saturating_sub(1)];
        let batch = Packed::new([[prompt, before].concat()]);
        let vocabulary = self.decoder.config().vocab_size;
        let mut found = Vec::with_capacity(places.len());
        for part in places.chunks((LOGITS / vocabulary).max(1)) {
            let logits = self.decoder.logits(&batch, part);
            let logits = logits.map_err(model("find the likeliest tokens"))?;
            let rows = logits.chunks_exact(vocabulary);
            found.extend(rows.map(|row| top(row, temperature, count)));
        }
        Ok(found)
    }
}

/// Returns the largest log-probs of a row of logits with their tokens; the lower id comes first in
/// a tie.
fn top(logits: &[f32], temperature: f32, count: usize) -> Likeliest {
    let scaled = |logit: f32| f64::from(logit) / f64::from(temperature);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| (scaled(logit) - scaled(largest)).exp())
        .sum();
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| {
        let (a_logit, b_logit) = (logits[*a as usize], logits[*b as usize]);
        b_logit.total_cmp(&a_logit).then(a.cmp(b))
    };
    let count = count.min(ids.len());
    if count > 0 && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, order);
    }
    ids.truncate(count);
    ids.sort_unstable_by(order);
    let of_id = |id: u32| {
        let logprob = scaled(logits[id as usize]) - scaled(largest) - sum.ln();
        (id, logprob.min(0.0) as f32)
    };
    ids.into_iter().map(of_id).collect()
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn the_likeliest_tokens_have_log_probs_over_all() {
        let found = top(&[0.0, 2.0, 2.0, -1.0], 2.0, 3);
        let ids: Vec<u32> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 2, 0]);
        let sum: f64 = [0.0, 1.0, 1.0, -0.5_f64].map(f64::exp).iter().sum();
        assert!((f64::from(found[2].1) + sum.ln()).abs() < 1e-6);
        assert!(top(&[1.0, 2.0], 1.0, 0).is_empty());
        assert_eq!(top(&[1.0, 2.0], 1.0, 9).len(), 2);
    }
}

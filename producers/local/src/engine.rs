mod rolling;

use std::{future::ready, sync::Arc};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::task::spawn_blocking;
use vintage_control::{Name, PolicyVersion};
use vintage_model::{
    Ask, Completion, Decoder, FinishReason, ModelFolder, Packed, ParamSet, SamplingParams, Targets,
    Tokenizer,
};
use vintage_rollout::{
    Engine, EngineError, Following, Groups, Overlap, Sample, SampleRequest, Sampling, TurnSampler,
};
use vintage_store::Weights;
use vintage_trajectory::{LogprobMode, PolicySpan};

use self::rolling::{Rolling, Rows};
use crate::{
    error::Error,
    local_model::LocalModel,
    texts::{Texts, base_files, fetch, model},
};

/// Name of the engine in rollouts.
const NAME: &str = concat!("vintage-local/", env!("CARGO_PKG_VERSION"));

/// Engine that samples in this process, on a blocking thread: one continuous batch of the version it
/// holds.
///
/// Architecture, tokenizer and chat template are those of version 0; every other version supplies
/// weights only.
pub struct LocalEngine {
    name: String,
    policy: Name,
    /// Weights of the policy; `None` for a model that no run has published, which has one version.
    weights: Option<Weights>,
    held: Arc<Held>,
}

/// Texts and weights that an engine holds. Conversations keep those with which they began.
struct Held {
    texts: Arc<Texts>,
    decoder: Arc<Decoder>,
    version: PolicyVersion,
    rolling: Rolling,
}

/// One completion as tokens, log-probs and text.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Tokens of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// Sampled tokens, the stop token included.
    pub tokens: Vec<u32>,
    /// Log-prob of each sampled token in nats, over the whole vocabulary at the sampling
    /// temperature.
    pub logprobs: Vec<f32>,
    /// Text of the completion, without the stop token and other special tokens.
    pub text: String,
    /// Reason the completion ended: a stop token or the length limit.
    pub finish_reason: FinishReason,
}

impl LocalEngine {
    /// Loads the model of `policy` with the weights of `version`.
    pub async fn open(
        weights: Weights,
        policy: Name,
        version: PolicyVersion,
    ) -> Result<Self, Error> {
        let files = base_files(&weights, &policy).await?;
        let bytes = fetch(&weights, &policy, version).await?;
        let attempted = format!("open version {version} of policy {policy}");
        let of = policy.clone();
        let opened = spawn_blocking(move || {
            let folder = ModelFolder::from_files(&files, &bytes)?;
            let texts = Texts::of(of, &folder, files);
            Ok((texts, Decoder::new(folder.config, folder.params)?))
        });
        let (texts, decoder) = opened.await?.map_err(model(attempted))?;
        Ok(Self {
            name: NAME.to_owned(),
            policy,
            weights: Some(weights),
            held: Held::new(Arc::new(texts), Arc::new(decoder), version),
        })
    }

    /// Creates an engine for a model that no run has published: its weights are version 0, and there
    /// is no other.
    pub fn of_model(model: LocalModel, policy: Name) -> Self {
        Self {
            name: NAME.to_owned(),
            policy,
            weights: None,
            held: Held::new(model.texts, model.decoder, PolicyVersion::ZERO),
        }
    }

    #[cfg(feature = "faults")]
    pub(crate) fn decoder(&self) -> &Decoder {
        &self.held.decoder
    }

    /// Model with the weights that the engine holds now.
    pub fn model(&self) -> LocalModel {
        LocalModel {
            texts: Arc::clone(&self.held.texts),
            decoder: Arc::clone(&self.held.decoder),
        }
    }

    /// Tokenizer of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.held.texts.tokenizer()
    }

    /// Scores tokens: the log-prob of each but the first, given those before it, under the softmax
    /// over the whole vocabulary at `temperature`.
    pub async fn score(&self, tokens: Vec<u32>, temperature: f32) -> Result<Vec<f32>, Error> {
        let decoder = Arc::clone(&self.held.decoder);
        let scored = spawn_blocking(move || {
            let scored = tokens.len().saturating_sub(1);
            let targets = Targets {
                position: (0..scored as u32).collect(),
                token: tokens.iter().skip(1).copied().collect(),
                temperature: vec![temperature; scored],
            };
            decoder.score(&Packed::new([tokens]), &targets)
        })
        .await?
        .map_err(model("score tokens"))?;
        Ok(scored.logprob)
    }

    /// Completes each prompt once; `seeds` has one seed per prompt. Temperature 0 takes the
    /// likeliest token (greedy), which is for evaluations only.
    pub async fn generate(
        &self,
        prompts: &[String],
        sampling: Sampling,
        seeds: Vec<u64>,
    ) -> Result<Vec<Generated>, Error> {
        let mut encoded = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            encoded.push(self.held.texts.encode(prompt, false)?);
        }
        let (texts, decoder) = (Arc::clone(&self.held.texts), Arc::clone(&self.held.decoder));
        generate(texts, decoder, encoded, sampling, seeds).await
    }
}

#[async_trait]
impl Engine for LocalEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> PolicyVersion {
        self.held.version
    }

    fn context_len(&self) -> usize {
        self.held.decoder.config().max_position_embeddings
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        Ok(signed(&self.held.texts.encode(text, rendered)?))
    }

    fn render(&self, chat: &str) -> Result<String, EngineError> {
        Ok(self.held.texts.render(chat)?)
    }

    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError> {
        let Some(weights) = &self.weights else {
            return Err(EngineError::VersionGone { version });
        };
        let bytes = fetch(weights, &self.policy, version).await?;
        let attempted = format!("load version {version} of policy {}", self.policy);
        let config = self.held.texts.config().clone();
        let decoder = spawn_blocking(move || {
            let params = ParamSet::from_safetensors(&bytes, &config)?;
            Decoder::new(config, params)
        })
        .await
        .map_err(Error::from)?
        .map_err(model(attempted))?;
        #[cfg(feature = "faults")]
        let decoder = self.decoder_after_load(decoder);
        self.held = Held::new(Arc::clone(&self.held.texts), Arc::new(decoder), version);
        Ok(())
    }

    fn turns(&self) -> Arc<dyn TurnSampler> {
        Arc::clone(&self.held) as Arc<dyn TurnSampler>
    }

    /// Groups join the batch of the version that is held. One batch of another version beside it
    /// would take as much from it as it gains.
    fn overlap(&self) -> Overlap {
        Overlap::SameVersion
    }
}

impl TurnSampler for Held {
    /// Has all requests join the continuous batch of this version.
    fn sample(&self, requests: Vec<SampleRequest>) -> Groups {
        let groups = FuturesUnordered::new();
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for (place, request) in requests.into_iter().enumerate() {
            match self.asks(&request) {
                Ok((prompt, asks)) => {
                    places.push((place, prompt));
                    asked.push(asks);
                }
                Err(error) => groups.push(ready((place, Err(error.into()))).boxed()),
            }
        }
        let replies = self.rolling.sample(asked);
        for ((place, prompt), reply) in places.into_iter().zip(replies) {
            let (texts, version) = (Arc::clone(&self.texts), self.version);
            let group = async move {
                let rows = match reply.await {
                    Ok(rows) => rows,
                    Err(_gone) => Err(Error::Batch("the process is ending".to_owned())),
                };
                let samples = rows.and_then(|rows| samples(&texts, version, &prompt, rows));
                (place, samples.map_err(EngineError::from))
            };
            groups.push(group.boxed());
        }
        groups.boxed()
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        Ok(signed(&self.texts.encode(text, rendered)?))
    }

    fn spell(&self, tokens: &[i32]) -> Result<String, EngineError> {
        Ok(self.texts.spell(tokens)?)
    }

    fn following(
        &self,
        chat: &str,
        completion: usize,
        stop: Option<i32>,
    ) -> Result<Following, EngineError> {
        Ok(self.texts.following(chat, completion, stop)?)
    }
}

impl Held {
    fn new(texts: Arc<Texts>, decoder: Arc<Decoder>, version: PolicyVersion) -> Arc<Self> {
        Arc::new(Self {
            rolling: Rolling::new(Arc::clone(&decoder)),
            texts,
            decoder,
            version,
        })
    }

    /// Returns the tokens of a request's prompt, and its completions.
    fn asks(&self, request: &SampleRequest) -> Result<(Vec<u32>, Vec<Ask>), Error> {
        let prompt = self.texts.tokens_of(request)?;
        let params = Arc::new(params(&self.texts, request.sampling));
        let ask = |index| Ask {
            prompt: prompt.clone(),
            params: Arc::clone(&params),
            seed: request.row_seed(index),
        };
        let asks = (0..request.samples).map(ask).collect();
        Ok((prompt, asks))
    }
}

fn samples(
    texts: &Texts,
    version: PolicyVersion,
    prompt: &[u32],
    rows: Rows,
) -> Result<Vec<Sample>, Error> {
    let sample = |(row, seconds): (Completion, f32)| {
        let stopped = row.finish_reason == FinishReason::Stop;
        Ok(Sample {
            prompt_tokens: signed(prompt),
            completion_text: texts.decode(&row.tokens, stopped)?,
            completion_tokens: signed(&row.tokens),
            logprobs: row.logprobs,
            logprob_mode: LogprobMode::Full,
            finish_reason: row.finish_reason.as_str().to_owned(),
            spans: vec![PolicySpan { start: 0, version }],
            seconds,
            episode: None,
            score: None,
        })
    };
    rows.into_iter().map(sample).collect()
}

fn params(texts: &Texts, sampling: Sampling) -> SamplingParams {
    SamplingParams {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        max_tokens: sampling.max_tokens,
        stop: texts.tokenizer().eos_ids().to_vec(),
    }
}

async fn generate(
    texts: Arc<Texts>,
    decoder: Arc<Decoder>,
    prompts: Vec<Vec<u32>>,
    sampling: Sampling,
    seeds: Vec<u64>,
) -> Result<Vec<Generated>, Error> {
    let params = params(&texts, sampling);
    let (prompts, completions) = spawn_blocking(move || {
        let completions = decoder.generate(&prompts, &params, &seeds);
        (prompts, completions)
    })
    .await?;
    let completions = completions.map_err(model("sample"))?;
    let whole = prompts
        .into_iter()
        .zip(completions)
        .map(|(prompt_tokens, completion)| {
            let stopped = completion.finish_reason == FinishReason::Stop;
            Ok(Generated {
                text: texts.decode(&completion.tokens, stopped)?,
                prompt_tokens,
                tokens: completion.tokens,
                logprobs: completion.logprobs,
                finish_reason: completion.finish_reason,
            })
        });
    whole.collect()
}

/// Converts token ids to the schema's int32; vocabularies are far below 2^31.
fn signed(tokens: &[u32]) -> Vec<i32> {
    tokens.iter().map(|&token| token as i32).collect()
}

#[cfg(test)]
mod conversations;
#[cfg(test)]
mod tests;

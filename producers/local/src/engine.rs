use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::spawn_blocking;
use vintage_control::{Name, PolicyVersion};
use vintage_model::{
    ChatTemplate, Decoder, FinishReason, Messages, ModelFolder, ParamSet, SamplingParams, Tokenizer,
};
use vintage_rollout::{Engine, EngineError, Sample, SampleRequest, Sampling};
use vintage_store::Weights;
use vintage_trajectory::{LogprobMode, PolicySpan};

use crate::error::Error;

/// Error message for a chat prompt where the model has no chat template.
pub const NO_CHAT_TEMPLATE: &str = "the model has no chat template (chat_template.jinja, or chat_template in \
     tokenizer_config.json), so messages make no prompt; take a model that was tuned on chats, or \
     give plain prompts";

/// Engine that samples in this process, on a blocking thread.
///
/// Architecture, tokenizer and chat template are those of version 0; every other version supplies
/// weights only.
pub struct LocalEngine {
    name: String,
    policy: Name,
    weights: Weights,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    decoder: Arc<Decoder>,
    version: PolicyVersion,
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
        let (tokenizer, chat, decoder) = spawn_blocking(move || {
            let folder = ModelFolder::from_files(&files, &bytes)?;
            Ok((
                folder.tokenizer,
                folder.chat,
                Decoder::new(folder.config, folder.params)?,
            ))
        })
        .await?
        .map_err(model(attempted))?;
        let name = concat!("vintage-local/", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(Self {
            name,
            policy,
            weights,
            tokenizer,
            chat,
            decoder: Arc::new(decoder),
            version,
        })
    }

    /// Tokenizer of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
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
            encoded.push(self.encode_text(prompt, false)?);
        }
        self.generate_tokens(encoded, sampling, seeds).await
    }

    async fn generate_tokens(
        &self,
        prompts: Vec<Vec<u32>>,
        sampling: Sampling,
        seeds: Vec<u64>,
    ) -> Result<Vec<Generated>, Error> {
        let params = SamplingParams {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            max_tokens: sampling.max_tokens,
            stop: self.tokenizer.eos_ids().to_vec(),
        };
        let decoder = Arc::clone(&self.decoder);
        let (prompts, completions) = spawn_blocking(move || {
            let completions = decoder.generate(&prompts, &params, &seeds);
            (prompts, completions)
        })
        .await?;
        let completions = completions.map_err(model("sample"))?;
        let text = |tokens: &[u32], reason| {
            // A stop token need not be a special one, so the tokenizer might decode it to text.
            let end = tokens.len() - usize::from(reason == FinishReason::Stop);
            self.tokenizer
                .decode(&tokens[..end])
                .map_err(model("decode a completion"))
        };
        let whole = prompts
            .into_iter()
            .zip(completions)
            .map(|(prompt_tokens, completion)| {
                Ok(Generated {
                    text: text(&completion.tokens, completion.finish_reason)?,
                    prompt_tokens,
                    tokens: completion.tokens,
                    logprobs: completion.logprobs,
                    finish_reason: completion.finish_reason,
                })
            });
        whole.collect()
    }

    fn encode_text(&self, text: &str, rendered: bool) -> Result<Vec<u32>, Error> {
        let tokens = if rendered {
            self.tokenizer.encode_rendered(text)
        } else {
            self.tokenizer.encode(text)
        };
        tokens.map_err(model("encode a prompt"))
    }
}

#[async_trait]
impl Engine for LocalEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> PolicyVersion {
        self.version
    }

    fn context_len(&self) -> usize {
        self.decoder.config().max_position_embeddings
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        Ok(signed(&self.encode_text(text, rendered)?))
    }

    fn render(&self, chat: &str) -> Result<String, EngineError> {
        let template = self.chat.as_ref().ok_or_else(|| {
            EngineError::BadRequest(format!("policy {}: {NO_CHAT_TEMPLATE}", self.policy))
        })?;
        let text = Messages::from_json(chat)
            .and_then(|chat| template.render(&chat, true))
            .map_err(model("render a chat"))?;
        Ok(text)
    }

    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError> {
        let bytes = fetch(&self.weights, &self.policy, version).await?;
        let attempted = format!("load version {version} of policy {}", self.policy);
        let config = self.decoder.config().clone();
        let decoder = spawn_blocking(move || {
            let params = ParamSet::from_safetensors(&bytes, &config)?;
            Decoder::new(config, params)
        })
        .await
        .map_err(Error::from)?
        .map_err(model(attempted))?;
        (self.decoder, self.version) = (Arc::new(decoder), version);
        Ok(())
    }

    async fn sample(
        &mut self,
        requests: Vec<SampleRequest>,
    ) -> Result<Vec<Vec<Sample>>, EngineError> {
        let Some(sampling) = requests.first().map(|request| request.sampling) else {
            return Ok(Vec::new());
        };
        let start = Instant::now();
        let (mut prompts, mut seeds) = (Vec::new(), Vec::new());
        for request in &requests {
            if request.sampling != sampling {
                return Err(Error::MixedSettings.into());
            }
            let tokens = self.encode_text(&request.prompt_text, request.rendered)?;
            for index in 0..request.samples {
                prompts.push(tokens.clone());
                seeds.push(request.row_seed(index));
            }
        }
        let rows = prompts.len();
        let generated = self.generate_tokens(prompts, sampling, seeds).await?;
        let seconds = start.elapsed().as_secs_f32() / rows.max(1) as f32;
        let mut samples = generated.into_iter().map(|row| Sample {
            prompt_tokens: signed(&row.prompt_tokens),
            completion_tokens: signed(&row.tokens),
            logprobs: row.logprobs,
            logprob_mode: LogprobMode::Full,
            completion_text: row.text,
            finish_reason: row.finish_reason.as_str().to_owned(),
            spans: vec![PolicySpan {
                start: 0,
                version: self.version,
            }],
            seconds,
        });
        Ok(requests
            .iter()
            .map(|request| {
                samples
                    .by_ref()
                    .take(usize::from(request.samples))
                    .collect()
            })
            .collect())
    }
}

/// Fetches the files that version 0 has beside its weights, such as config and tokenizer.
async fn base_files(weights: &Weights, policy: &Name) -> Result<Vec<(&'static str, Bytes)>, Error> {
    let version = PolicyVersion::ZERO;
    let mut files = Vec::new();
    for file in ModelFolder::FILES {
        let found = weights
            .fetch_file(version, file)
            .await
            .map_err(|source| Error::Fetch {
                policy: policy.to_string(),
                version,
                source: Box::new(source),
            })?;
        match found {
            Some(bytes) => files.push((file, bytes)),
            None if ModelFolder::NEEDED.contains(&file) => {
                return Err(Error::MissingFile {
                    policy: policy.to_string(),
                    file,
                });
            }
            None => {}
        }
    }
    Ok(files)
}

/// Fetches the weights of a version and verifies their hash.
async fn fetch(weights: &Weights, policy: &Name, version: PolicyVersion) -> Result<Bytes, Error> {
    weights.fetch(version).await.map_err(|source| Error::Fetch {
        policy: policy.to_string(),
        version,
        source: Box::new(source),
    })
}

fn model(attempted: impl Into<String>) -> impl FnOnce(vintage_model::Error) -> Error {
    let attempted = attempted.into();
    move |source| Error::Model {
        attempted,
        source: Box::new(source),
    }
}

/// Converts token ids to the schema's int32; vocabularies are far below 2^31.
fn signed(tokens: &[u32]) -> Vec<i32> {
    tokens.iter().map(|&token| token as i32).collect()
}

#[cfg(test)]
mod tests;

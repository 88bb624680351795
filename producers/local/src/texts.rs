use bytes::Bytes;
use vintage_control::{Name, PolicyVersion};
use vintage_model::{ChatTemplate, DecoderConfig, Messages, ModelFolder, Tokenizer};
use vintage_rollout::{Following, SampleRequest};
use vintage_store::Weights;

use crate::error::Error;

/// Error message for a chat prompt where the model has no chat template.
pub const NO_CHAT_TEMPLATE: &str = "the model has no chat template (chat_template.jinja, or chat_template in \
     tokenizer_config.json), so messages make no prompt; take a model that was tuned on chats, or \
     give plain prompts";

/// Text side of a policy: tokenizer, chat template and shape, from the files of its version 0.
#[derive(Debug)]
pub struct Texts {
    policy: Name,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    config: DecoderConfig,
    files: Vec<(&'static str, Bytes)>,
}

impl Texts {
    /// Reads the files that version 0 of `policy` has beside its weights.
    pub async fn open(weights: &Weights, policy: &Name) -> Result<Self, Error> {
        let files = base_files(weights, policy).await?;
        let folder = ModelFolder::from_files_without_weights(&files)
            .map_err(model(format!("open policy {policy}")))?;
        Ok(Self::of(policy.clone(), &folder, files))
    }

    /// Takes the text side of a folder, whose other files are `files`.
    pub(crate) fn of(
        policy: Name,
        folder: &ModelFolder,
        files: Vec<(&'static str, Bytes)>,
    ) -> Self {
        Self {
            policy,
            tokenizer: folder.tokenizer.clone(),
            chat: folder.chat.clone(),
            config: folder.config.clone(),
            files,
        }
    }

    /// Tokenizer of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Shape of the model.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Names and bytes of the files of version 0, except its weights.
    pub fn files(&self) -> &[(&'static str, Bytes)] {
        &self.files
    }

    /// Encodes a text to tokens. A `rendered` chat already holds its special tokens, so none are
    /// added.
    pub fn encode(&self, text: &str, rendered: bool) -> Result<Vec<u32>, Error> {
        let tokens = if rendered {
            self.tokenizer.encode_rendered(text)
        } else {
            self.tokenizer.encode(text)
        };
        tokens.map_err(model("encode a prompt"))
    }

    /// Decodes a completion without the stop token that ends it, if it was `stopped`.
    pub fn decode(&self, tokens: &[u32], stopped: bool) -> Result<String, Error> {
        // A stop token need not be a special one, so the tokenizer might decode it to text.
        let end = tokens.len() - usize::from(stopped);
        self.tokenizer
            .decode(&tokens[..end])
            .map_err(model("decode a completion"))
    }

    /// Decodes tokens with special tokens spelled out.
    pub fn decode_all(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer
            .decode_all(tokens)
            .map_err(model("decode tokens"))
    }

    /// Returns the tokens that a request has completed.
    pub fn tokens_of(&self, request: &SampleRequest) -> Result<Vec<u32>, Error> {
        let prompt = &request.prompt;
        match &request.turn {
            None => self.encode(&prompt.text, prompt.is_rendered()),
            Some(turn) => turn.tokens.iter().map(|&id| unsigned(id)).collect(),
        }
    }

    /// Decodes tokens with special tokens spelled out.
    pub fn spell(&self, tokens: &[i32]) -> Result<String, Error> {
        let ids: Result<Vec<u32>, Error> = tokens.iter().map(|&id| unsigned(id)).collect();
        self.decode_all(&ids?)
    }

    /// Renders a chat up to the point where the model is to answer.
    ///
    /// # Errors
    /// The chat is not JSON, or the model has no chat template.
    pub fn render(&self, chat: &str) -> Result<String, Error> {
        let template = self.template()?;
        Messages::from_json(chat)
            .and_then(|chat| template.render(&chat, true))
            .map_err(model("render a chat"))
    }

    /// Returns the tokens that follow a completion in a chat; see
    /// [`vintage_rollout::TurnSampler::following`].
    ///
    /// # Errors
    /// The chat is not JSON, the template refuses it, or its new text cannot be encoded.
    pub fn following(
        &self,
        chat: &str,
        completion: usize,
        stop: Option<i32>,
    ) -> Result<Following, Error> {
        let template = self.template()?;
        let stop = stop.map(unsigned).transpose()?;
        let following = Messages::from_json(chat)
            .and_then(|chat| template.following(&chat, completion))
            .map_err(model("continue a chat"))?;
        let tokens = self.tokenizer.encode_following(stop, &following.text);
        let tokens = tokens.map_err(model("encode the messages of an environment"))?;
        Ok(Following {
            tokens: tokens.iter().map(|&id| id as i32).collect(),
            rewriting: following.rewriting.map(|rewriting| rewriting.to_string()),
        })
    }

    fn template(&self) -> Result<&ChatTemplate, Error> {
        self.chat.as_ref().ok_or_else(|| Error::NoChatTemplate {
            policy: self.policy.to_string(),
        })
    }
}

fn unsigned(id: i32) -> Result<u32, Error> {
    u32::try_from(id).map_err(|_| Error::NegativeToken(id))
}

/// Fetches the files that version 0 has beside its weights, such as config and tokenizer.
pub(crate) async fn base_files(
    weights: &Weights,
    policy: &Name,
) -> Result<Vec<(&'static str, Bytes)>, Error> {
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
pub(crate) async fn fetch(
    weights: &Weights,
    policy: &Name,
    version: PolicyVersion,
) -> Result<Bytes, Error> {
    weights.fetch(version).await.map_err(|source| Error::Fetch {
        policy: policy.to_string(),
        version,
        source: Box::new(source),
    })
}

pub(crate) fn model(attempted: impl Into<String>) -> impl FnOnce(vintage_model::Error) -> Error {
    let attempted = attempted.into();
    move |source| Error::Model {
        attempted,
        source: Box::new(source),
    }
}

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use vintage_control::{Name, PolicyVersion};
use vintage_local::Texts;
use vintage_rollout::{
    Engine, EngineError, Following, Groups, Overlap, SampleRequest, TurnSampler,
};
use vintage_store::Weights;

use crate::desk::{Desk, Facts, Slot};

/// Settings of a [`GivenEngine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenSettings {
    /// Name of the program, which every rollout records.
    pub name: String,
    /// True if each group must be sampled by the version of its lease (`gate.exact`).
    pub exact: bool,
    /// True if the run's own reward scores what comes without a reward.
    pub scores: bool,
}

/// Engine whose completions a program gives at a [`Desk`]. It loads no weights: the program says which
/// version sampled.
pub struct GivenEngine {
    name: String,
    weights: Weights,
    turns: Turns,
}

#[derive(Clone)]
struct Turns {
    texts: Arc<Texts>,
    desk: Desk,
    exact: bool,
    version: PolicyVersion,
}

impl GivenEngine {
    /// Reads the text side of `policy`, and opens the desk.
    ///
    /// # Errors
    /// Version 0 cannot be read.
    pub async fn open(
        weights: Weights,
        policy: &Name,
        desk: Desk,
        settings: GivenSettings,
    ) -> Result<Self, vintage_local::Error> {
        let texts = Arc::new(Texts::open(&weights, policy).await?);
        desk.join(Facts {
            texts: Arc::clone(&texts),
            scores: settings.scores,
        });
        Ok(Self {
            name: format!(
                "vintage-given/{} {}",
                env!("CARGO_PKG_VERSION"),
                settings.name
            ),
            weights,
            turns: Turns {
                texts,
                desk,
                exact: settings.exact,
                version: PolicyVersion::ZERO,
            },
        })
    }
}

#[async_trait]
impl Engine for GivenEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> PolicyVersion {
        self.turns.version
    }

    fn context_len(&self) -> usize {
        self.turns.texts.config().max_position_embeddings
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        self.turns.encode(text, rendered)
    }

    fn render(&self, chat: &str) -> Result<String, EngineError> {
        Ok(self.turns.texts.render(chat)?)
    }

    /// Notes the version, whose weights the program loads if it wants them.
    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError> {
        let manifest = self.weights.manifest(version).await;
        let manifest = manifest.map_err(|error| EngineError::Failed(Box::new(error)))?;
        if manifest.is_none() {
            return Err(EngineError::VersionGone { version });
        }
        self.turns.version = version;
        self.turns.desk.heed(version);
        Ok(())
    }

    fn turns(&self) -> Arc<dyn TurnSampler> {
        Arc::new(self.turns.clone())
    }

    /// Programs sample in their own time, and may hold several slots.
    fn overlap(&self) -> Overlap {
        Overlap::Versions
    }
}

impl Turns {
    fn slot(&self, request: &SampleRequest) -> Result<Slot, EngineError> {
        let tokens = self.texts.tokens_of(request)?;
        Ok(Slot {
            group: request.group,
            prompt: Arc::clone(&request.prompt),
            prompt_tokens: tokens.iter().map(|&token| token as i32).collect(),
            seeds: (0..request.samples)
                .map(|row| request.row_seed(row))
                .collect(),
            sampling: request.sampling,
            version: self.version,
            exact: self.exact,
        })
    }
}

impl TurnSampler for Turns {
    fn sample(&self, requests: Vec<SampleRequest>) -> Groups {
        let groups = requests.into_iter().enumerate().map(|(index, request)| {
            let put = self.slot(&request).map(|slot| self.desk.put(slot));
            async move {
                let answer = match put {
                    Err(error) => Err(error),
                    Ok(None) => Err(EngineError::GivenBack),
                    Ok(Some(answered)) => {
                        // A desk that ends drops what was not answered.
                        answered.await.unwrap_or(Err(EngineError::GivenBack))
                    }
                };
                (index, answer)
            }
        });
        groups.collect::<FuturesUnordered<_>>().boxed()
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        let tokens = self.texts.encode(text, rendered)?;
        Ok(tokens.iter().map(|&token| token as i32).collect())
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

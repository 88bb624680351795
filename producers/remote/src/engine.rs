use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use reqwest::Client;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};
use vintage_control::{Name, PolicyVersion};
use vintage_local::{Staging, Texts};
use vintage_rollout::{
    Engine, EngineError, Following, Groups, Overlap, Sample, SampleRequest, Sampling, TurnSampler,
};
use vintage_settings::RolloutConfig;
use vintage_store::Weights;
use vintage_trajectory::LogprobMode;

use crate::{
    check::Reference,
    completion::{Completion, Failure, complete},
    error::Error,
    label::Labels,
    reply::{Ask, Limits},
    servers::{Facts, Servers},
    stager::Stager,
    transport::Transport,
};

/// Time after which an unused connection is closed. vLLM and SGLang close theirs after 5 s, and a
/// request that meets the closing gets no reply: of 64 sent at once after a pause, 27 were lost so.
const IDLE: Duration = Duration::from_secs(2);

/// Number of folders of whole weights kept: the one in use, and those that a server coming back may
/// still read.
const WHOLE_KEPT: usize = 3;
/// Number of folders kept where most are adapters, which a server reads again while requests ask for
/// them.
const ADAPTERS_KEPT: usize = 32;

/// Parts and settings of a [`RemoteEngine`].
pub struct RemoteSetup {
    /// Weights of the policy.
    pub weights: Weights,
    /// Policy that the servers sample from.
    pub policy: Name,
    /// Sampling settings, with the servers' addresses and section.
    pub rollout: RolloutConfig,
    /// Folder in which versions are written for the servers, unless the settings name one.
    pub folder: PathBuf,
    /// Key that is sent to the servers, if they want one.
    pub key: Option<String>,
}

/// Engine that samples with inference servers over HTTP.
pub struct RemoteEngine {
    name: String,
    context: usize,
    fixed: bool,
    texts: Arc<Texts>,
    stager: Stager,
    servers: Arc<Servers>,
    turns: Arc<Turns>,
    version: PolicyVersion,
    reviver: AbortHandle,
}

/// Sampler of the engine. Whatever the servers hold when a turn is asked for samples it.
struct Turns {
    texts: Arc<Texts>,
    servers: Arc<Servers>,
    /// Room for tokens of requests that run: prompts, and completions at their longest.
    room: Arc<Semaphore>,
    room_size: u32,
}

impl RemoteEngine {
    /// Finds out what the servers are, gives them the newest weights of the policy, and compares
    /// their log-probs with those of the in-process engine. Waits for servers that are starting.
    ///
    /// # Errors
    /// A server lacks what the settings need, or serves another model; or none comes into service.
    pub async fn open(setup: RemoteSetup) -> Result<Self, Error> {
        let RemoteSetup {
            weights,
            policy,
            rollout,
            folder,
            key,
        } = setup;
        let settings = rollout.server.clone();
        let texts = Arc::new(Texts::open(&weights, &policy).await?);
        let config = texts.config();
        let limits = Limits {
            vocabulary: config.vocab_size,
            stop: texts.tokenizer().eos_ids().to_vec(),
            context: config.max_position_embeddings,
        };
        let folder = settings.folder.clone().unwrap_or(folder);
        let kept = if settings.adapters {
            ADAPTERS_KEPT
        } else {
            WHOLE_KEPT
        };
        let there = settings.folder_there.clone();
        let staging = Staging::new(folder, there, format!("{policy}-"), kept);
        let stager = Stager {
            weights: weights.clone(),
            texts: Arc::clone(&texts),
            staging: Arc::new(std::sync::Mutex::new(staging)),
            adapters: settings.adapters,
        };
        let labels = Labels::new(policy.clone(), weights.clone());
        let (version, target) = if settings.fixed {
            (PolicyVersion::ZERO, None)
        } else {
            let version = stager.newest().await?;
            (version, Some(stager.stage(&labels, version).await?))
        };
        let client = Client::builder()
            .connect_timeout(settings.connect())
            .pool_idle_timeout(IDLE)
            .no_proxy()
            .build()?;
        let transport = |url: &String| Transport::new(url, client.clone(), key.clone());
        let transports = rollout.endpoints.iter().map(transport).collect();
        let (room_size, fixed) = (settings.tokens_in_flight as u32, settings.fixed);
        let facts = Facts {
            wanted: rollout.engine,
            settings,
            labels,
            limits,
            sampling: Sampling::from(&rollout),
            reference: Reference::new(weights, policy),
        };
        let servers = Arc::new(Servers::new(facts, transports, target));
        let reviving = Arc::clone(&servers);
        let reviver = tokio::spawn(async move { reviving.bring_up_all().await }).abort_handle();
        let mut engine = Self {
            name: String::new(),
            context: texts.config().max_position_embeddings,
            fixed,
            turns: Arc::new(Turns {
                texts: Arc::clone(&texts),
                servers: Arc::clone(&servers),
                room: Arc::new(Semaphore::new(room_size as usize)),
                room_size,
            }),
            texts,
            stager,
            servers,
            version,
            reviver,
        };
        engine.servers.first(version).await?;
        let (server, context) = engine.servers.name_and_context();
        engine.name = format!("vintage-remote/{} {server}", env!("CARGO_PKG_VERSION"));
        engine.context = context.map_or(engine.context, |context| context.min(engine.context));
        Ok(engine)
    }
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        self.reviver.abort();
    }
}

#[async_trait]
impl Engine for RemoteEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> PolicyVersion {
        self.version
    }

    fn context_len(&self) -> usize {
        self.context
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        Ok(signed(&self.texts.encode(text, rendered)?))
    }

    fn render(&self, chat: &str) -> Result<String, EngineError> {
        Ok(self.texts.render(chat)?)
    }

    /// Gives the version to the servers. Under `rollout.server.fixed` they keep theirs, and completions
    /// say so.
    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError> {
        if self.fixed {
            self.version = version;
            return Ok(());
        }
        let labels = &self.servers.facts.labels;
        let target = self.stager.stage(labels, version).await?;
        self.servers.load(target).await?;
        self.version = version;
        Ok(())
    }

    fn turns(&self) -> Arc<dyn TurnSampler> {
        Arc::clone(&self.turns) as Arc<dyn TurnSampler>
    }

    fn overlap(&self) -> Overlap {
        Overlap::Versions
    }
}

impl Turns {
    fn ask(&self, request: &SampleRequest, index: u16) -> Result<Ask, EngineError> {
        let sampling = request.sampling;
        let seed = request.row_seed(index);
        Ok(Ask {
            prompt: self.texts.tokens_of(request)?,
            max_tokens: sampling.max_tokens,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: ((seed ^ (seed >> 32)) & 0x7fff_ffff) as u32,
        })
    }
}

impl TurnSampler for Turns {
    fn sample(&self, requests: Vec<SampleRequest>) -> Groups {
        let mut groups = JoinSet::new();
        for (index, request) in requests.into_iter().enumerate() {
            let asks: Result<Vec<Ask>, EngineError> = (0..request.samples)
                .map(|index| self.ask(&request, index))
                .collect();
            let group = Group {
                texts: Arc::clone(&self.texts),
                servers: Arc::clone(&self.servers),
                room: Arc::clone(&self.room),
                room_size: self.room_size,
                at_least: request.at_least(),
            };
            groups.spawn(async move {
                let sampled = match asks {
                    Ok(asks) => group.sample(asks).await,
                    Err(error) => Err(error),
                };
                (index, sampled)
            });
        }
        // Dropping the set cancels its tasks, and with them the requests.
        let finished = futures::stream::unfold(groups, |mut groups| async move {
            let next = groups.join_next().await?;
            let item = next.unwrap_or_else(|error| (0, Err(Error::from(error).into())));
            Some((item, groups))
        });
        finished.boxed()
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

/// Task of one group.
struct Group {
    texts: Arc<Texts>,
    servers: Arc<Servers>,
    room: Arc<Semaphore>,
    room_size: u32,
    /// Oldest version that may sample.
    at_least: PolicyVersion,
}

impl Group {
    /// Samples the completions of a group, all at once as far as there is room.
    async fn sample(self, asks: Vec<Ask>) -> Result<Vec<Sample>, EngineError> {
        let prompt = asks
            .first()
            .map_or_else(Vec::new, |ask| signed(&ask.prompt));
        let mut rows = JoinSet::new();
        let mut finished = vec![None; asks.len()];
        for (index, ask) in asks.into_iter().enumerate() {
            let wanted = (ask.prompt.len() + ask.max_tokens) as u32;
            let room = Arc::clone(&self.room);
            let servers = Arc::clone(&self.servers);
            // A completion that is longer than all the room runs alone. The semaphore is never
            // closed.
            let taken = room.acquire_many_owned(wanted.min(self.room_size)).await;
            let at_least = self.at_least;
            rows.spawn(async move {
                let _taken = taken;
                (index, complete(&servers, &ask, at_least).await)
            });
        }
        while let Some(row) = rows.join_next().await {
            let (index, row) = row.map_err(Error::from)?;
            match row {
                Ok(completion) => finished[index] = Some(completion),
                Err(Failure::Engine(error)) => return Err(error.into()),
                Err(Failure::Completion(fault)) => {
                    return Err(EngineError::GroupFailed {
                        reason: fault.reason.as_str(),
                        detail: fault.detail,
                    });
                }
            }
        }
        let rows = finished.into_iter().flatten();
        rows.map(|row| self.row(row, prompt.clone())).collect()
    }

    fn row(&self, row: Completion, prompt_tokens: Vec<i32>) -> Result<Sample, EngineError> {
        Ok(Sample {
            prompt_tokens,
            completion_text: self.texts.decode(&row.tokens, row.stopped)?,
            completion_tokens: signed(&row.tokens),
            logprobs: row.logprobs,
            // Servers that give others are refused when they are brought up.
            logprob_mode: LogprobMode::Full,
            finish_reason: if row.stopped { "stop" } else { "length" }.to_owned(),
            spans: row.spans,
            seconds: row.seconds,
            episode: None,
            score: None,
        })
    }
}

/// Converts token ids to the schema's int32; vocabularies are far below 2^31.
fn signed(tokens: &[u32]) -> Vec<i32> {
    tokens.iter().map(|&token| token as i32).collect()
}

//! Checks of a server before it samples for a run: what it can do, whether it serves the run's
//! model, and which distribution its log-probs are of.

use std::sync::Arc;

use tokio::sync::Mutex;
use vintage_control::{Name, PolicyVersion};
use vintage_local::LocalEngine;
use vintage_rollout::{EngineError, Sampling};
use vintage_store::Weights;

use crate::{
    completion::request,
    error::Error,
    fault::{ServerFault, Verdict},
    reply::Ask,
    server::{Kind, Server},
    servers::Servers,
    transport::Transport,
};

/// Completions that are measured, and their longest length.
const ROWS: u32 = 4;
const LENGTH: usize = 16;
/// Length of the prompt that is completed.
const PROMPT: usize = 8;

/// Advice where adapters cannot be loaded.
pub(crate) const ADAPTERS_REMEDY: &str = "start vllm with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in \
                                          its environment, --enable-lora and --max-lora-rank of \
                                          learner.lora.rank at least, or load whole weights with \
                                          rollout.server.adapters = false";

/// Engine of this process that servers are compared with; it is opened when it is needed.
pub(crate) struct Reference {
    weights: Weights,
    policy: Name,
    engine: Mutex<Option<Arc<LocalEngine>>>,
}

impl Reference {
    pub(crate) fn new(weights: Weights, policy: Name) -> Self {
        Self {
            weights,
            policy,
            engine: Mutex::new(None),
        }
    }

    /// Drops the engine, and with it the memory of its weights.
    pub(crate) async fn close(&self) {
        *self.engine.lock().await = None;
    }

    async fn open(&self, version: PolicyVersion) -> Result<Arc<LocalEngine>, Error> {
        use vintage_rollout::Engine as _;
        let mut kept = self.engine.lock().await;
        if let Some(engine) = kept.as_ref().filter(|engine| engine.version() == version) {
            return Ok(Arc::clone(engine));
        }
        *kept = None;
        let (weights, policy) = (self.weights.clone(), self.policy.clone());
        let engine = Arc::new(LocalEngine::open(weights, policy, version).await?);
        *kept = Some(Arc::clone(&engine));
        Ok(engine)
    }
}

/// Refuses a server that cannot do what the settings ask for.
pub(crate) fn check_abilities(
    servers: &Servers,
    http: &Transport,
    server: &Server,
) -> Result<(), Error> {
    let settings = &servers.facts.settings;
    let unfit = |what: String, remedy: &str| {
        Err(Error::Unfit {
            url: http.url().to_owned(),
            what,
            remedy: remedy.to_owned(),
        })
    };
    let vocabulary = servers.facts.limits.vocabulary;
    if let Some(found) = server.vocabulary.filter(|&found| found != vocabulary) {
        return unfit(
            format!("it serves a model of {found} tokens, and the run's has {vocabulary}"),
            "serve the run's model",
        );
    }
    if !settings.fixed && !server.swaps {
        let what = format!("the weights of {} cannot be changed", server.kind.as_str());
        return match server.kind {
            Kind::Vllm => unfit(
                what,
                "start it with VLLM_SERVER_DEV_MODE=1 in its environment (`vintage serve` with \
                 --control), in a private network, or sample everything from version 0 with rollout.server.fixed = true",
            ),
            Kind::Sglang | Kind::Llama | Kind::Openai => unfit(
                what,
                "take vllm or sglang, or sample everything from version 0 with \
                 rollout.server.fixed = true",
            ),
        };
    }
    if settings.adapters && !server.adapts {
        return unfit(
            format!("{} takes no adapters while it runs", server.kind.as_str()),
            ADAPTERS_REMEDY,
        );
    }
    if !settings.fixed && server.kind == Kind::Vllm && !server.names_versions() {
        tracing::warn!(
            "{} does not serve /inference/v1/generate, so versions are read before and after each \
             request, and completions that a change of weights meets are thrown away; start it \
             with --enable-scale-out",
            http.url()
        );
    }
    let sampling = servers.facts.sampling;
    if !settings.check_model && (!is_plain(sampling)) {
        return unfit(
            "which distribution its log-probs are of is not known at this temperature, top_p and \
             top_k"
                .to_owned(),
            "set rollout.server.check_model = true, or sample at temperature 1 without top_p and \
             top_k",
        );
    }
    Ok(())
}

/// Compares the server's log-probs with those of the in-process engine, first at temperature 1, where
/// all servers agree, then at the run's own settings.
///
/// # Errors
/// The server serves another model, or its log-probs are not those over the whole vocabulary at the
/// sampling temperature.
pub(crate) async fn check_model(
    servers: &Servers,
    http: &Transport,
    server: &Server,
    version: PolicyVersion,
) -> Result<(), Error> {
    if !servers.facts.settings.check_model {
        return Ok(());
    }
    let reference = match servers.facts.reference.open(version).await {
        Ok(reference) => reference,
        // The version was deleted since the servers got it; the server says that it holds it.
        Err(error) => match EngineError::from(error) {
            EngineError::VersionGone { .. } => return Ok(()),
            error => {
                return Err(Error::Reference {
                    version,
                    source: Box::new(error),
                });
            }
        },
    };
    let tolerance = servers.facts.settings.model_tolerance;
    let unfit = |what: String, remedy: String| Error::Unfit {
        url: http.url().to_owned(),
        what,
        remedy,
    };
    let plain = Sampling {
        max_tokens: LENGTH,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
    };
    let rows = sample(servers, http, server, version, plain).await?;
    let found = distance(&reference, &rows, 1.0).await?;
    tracing::info!(
        "{}: log-probs differ by {found:.6} nats a token on average from those of the in-process \
         engine",
        http.url()
    );
    if found > tolerance {
        return Err(unfit(
            format!(
                "it does not serve version {version} of the run's model: its log-probs differ by \
                 {found:.4} nats a token on average from those computed here"
            ),
            "serve the model that model.path names, with `--generation-config vllm` on vLLM, or \
             raise rollout.server.model_tolerance for a server of lower precision"
                .to_owned(),
        ));
    }
    if is_plain(servers.facts.sampling) {
        return Ok(());
    }
    let of_run = Sampling {
        max_tokens: LENGTH,
        ..servers.facts.sampling
    };
    let rows = sample(servers, http, server, version, of_run).await?;
    if distance(&reference, &rows, of_run.temperature).await? <= tolerance {
        return Ok(());
    }
    let raw = distance(&reference, &rows, 1.0).await? <= tolerance;
    let (what, remedy) = if raw {
        ("raw ones: those of temperature 1", raw_remedy(server.kind))
    } else {
        (
            "truncated ones: over the tokens that top_p and top_k keep, or under other settings",
            truncated_remedy(server.kind),
        )
    };
    Err(unfit(
        format!(
            "its log-probs at temperature {}, top_p {} and top_k {} are {what}, and only those over \
             the whole vocabulary at the sampling temperature train",
            of_run.temperature, of_run.top_p, of_run.top_k
        ),
        remedy.to_owned(),
    ))
}

fn is_plain(sampling: Sampling) -> bool {
    (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)
}

fn raw_remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Vllm => {
            "start it with --logprobs-mode processed_logprobs, or set rollout.temperature = 1"
        }
        Kind::Sglang | Kind::Llama | Kind::Openai => "set rollout.temperature = 1",
    }
}

fn truncated_remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Vllm => {
            "set rollout.top_p = 1 and rollout.top_k = 0, or rollout.temperature = 1 and start it \
             with --logprobs-mode raw_logprobs"
        }
        Kind::Sglang | Kind::Llama | Kind::Openai => "set rollout.top_p = 1 and rollout.top_k = 0",
    }
}

/// The probe's prompt with the sampled tokens, and the log-probs that the server gives to these.
type Row = (Vec<u32>, Vec<f32>);

/// Tokens of the probe's prompt, spread over the vocabulary, none of which ends a text.
fn prompt(servers: &Servers) -> Vec<u32> {
    let limits = &servers.facts.limits;
    let step = (limits.vocabulary / PROMPT).max(1);
    let ids = (0..limits.vocabulary).skip(step / 2).step_by(step);
    let ids = ids
        .map(|id| id as u32)
        .filter(|id| !limits.stop.contains(id));
    ids.take(PROMPT).collect()
}

/// Samples the rows that are measured.
async fn sample(
    servers: &Servers,
    http: &Transport,
    server: &Server,
    version: PolicyVersion,
    sampling: Sampling,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut wrong = None;
    for seed in 0..ROWS {
        let ask = Ask {
            prompt: prompt(servers),
            max_tokens: sampling.max_tokens,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed,
        };
        match request(servers, http, server, &ask, version).await {
            Ok((reply, _spans)) => {
                let mut tokens = ask.prompt;
                tokens.extend(reply.tokens);
                rows.push((tokens, reply.logprobs));
            }
            Err(fault) if fault.reason.verdict() == Verdict::Wrong => wrong = Some(fault),
            Err(fault) => {
                let attempted = format!("sample a first completion at {}", http.url());
                return Err(Error::Server { attempted, fault });
            }
        }
    }
    match (rows.is_empty(), wrong) {
        (true, Some(fault)) => Err(refused(http, server, &fault)),
        _ => Ok(rows),
    }
}

/// Refusal of a server whose every reply was wrong.
fn refused(http: &Transport, server: &Server, fault: &ServerFault) -> Error {
    let remedy = match server.kind {
        Kind::Openai => {
            "take a server that returns token ids with their log-probs (return_token_ids), such as \
             vllm serve, SGLang or llama-server"
        }
        Kind::Vllm | Kind::Sglang | Kind::Llama => "take the release that the guide names",
    };
    Error::Unfit {
        url: http.url().to_owned(),
        what: format!("its completions cannot be used: {fault}"),
        remedy: remedy.to_owned(),
    }
}

/// Mean absolute difference from the in-process engine's log-probs at a temperature, in nats.
async fn distance(reference: &LocalEngine, rows: &[Row], temperature: f32) -> Result<f64, Error> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for (prompt_and_tokens, logprobs) in rows {
        let scored = reference
            .score(prompt_and_tokens.clone(), temperature)
            .await?;
        let of_tokens = scored.iter().rev().zip(logprobs.iter().rev());
        for (ours, theirs) in of_tokens {
            sum += f64::from((ours - theirs).abs());
            count += 1;
        }
    }
    Ok(sum / f64::from(count.max(1)))
}

//! `vintage reward test`: what the reward of a run gives for completions of a few prompts, before
//! anything is trained.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vintage_local::LocalEngine;
use vintage_rollout::{
    Engine as _, Form, Prompt, PromptSet, Reward, RewardItem, SampleRequest, Sampling, all_groups,
    group_seed, open_reward,
};
use vintage_settings::RunConfig;
use vintage_trajectory::GroupId;

use crate::{
    error::{Error, Result},
    event::Events,
    opened,
    prompts::PromptSets,
};

/// Prompts and completions to try a reward with.
#[derive(Debug, Clone)]
pub struct TrialRequest {
    /// Run or model that completes the prompts; nothing is sampled if it is `None`.
    pub what: Option<PathBuf>,
    /// Number of prompts, from the start of the training set.
    pub count: usize,
    /// Number of completions sampled for each prompt.
    pub samples: u16,
    /// Completions to judge for every prompt beside those sampled.
    pub completions: Vec<String>,
}

/// Prompts with the completions that were judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Prompts tried, in file order.
    pub prompts: Vec<TriedPrompt>,
    /// Number of completions that got no reward.
    pub failed: u64,
    /// Number of prompts whose known answer earns no more than an empty completion.
    pub unrewarded_answers: u64,
}

/// Prompt with the completions that were judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TriedPrompt {
    /// File of the prompt.
    pub file: PathBuf,
    /// Line of the file, from 1; of a Parquet file the row.
    pub line: usize,
    /// Text that a policy completes; a chat is rendered.
    pub prompt: String,
    /// Known answer.
    pub answer: Option<String>,
    /// Completions, in the order of [`Origin`].
    pub completions: Vec<TriedCompletion>,
}

/// Completion as it was judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TriedCompletion {
    /// Origin of the text.
    pub origin: Origin,
    /// Text without special tokens.
    pub completion: String,
    /// Number of tokens, if it was sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Reward; `None` if there is none, for the reason in `failure`.
    pub reward: Option<f32>,
    /// Named components of the reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<BTreeMap<String, f32>>,
    /// Reason for which there is no reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Origin of a completion that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Known answer of the prompt, as a completion.
    KnownAnswer,
    /// Empty completion.
    Empty,
    /// Completion that the user gave.
    Given,
    /// Completion that a model sampled.
    Sampled,
}

/// Judges completions of the first prompts with the reward of `config`. Nothing is written.
///
/// # Errors
/// Prompts that cannot be read, a model that cannot be opened, a reward that cannot start or gives
/// up, or an environment, which judges whole conversations.
pub async fn try_reward(
    request: &TrialRequest,
    config: &RunConfig,
    stop: &CancellationToken,
    events: &Events,
) -> Result<Trial> {
    tokio::select! {
        trial = judged(request, config, events) => trial,
        () = stop.cancelled() => Err(Error::Interrupted),
    }
}

async fn judged(request: &TrialRequest, config: &RunConfig, events: &Events) -> Result<Trial> {
    if config.rollout.environment.is_set() {
        return Err(Error::Setting {
            setting: "rollout.environment.command".to_owned(),
            reason: "an environment judges whole conversations, not completions: try it with \
                     `vintage eval MODEL --count 3`"
                .to_owned(),
        });
    }
    let mut prompts = PromptSets::read(&config.prompts)?.train;
    let what = request.what.as_deref().or(config.model.path.as_deref());
    let mut engine = match what {
        Some(what) => Some(opened::open(what, None, None, events).await?.engine),
        None => None,
    };
    render(&mut prompts, engine.as_ref(), config)?;
    let mut reward = open_reward(&config.rollout)?;
    let mut trial = Trial {
        prompts: Vec::new(),
        failed: 0,
        unrewarded_answers: 0,
    };
    let asked: Vec<_> = prompts.prompts().iter().take(request.count).collect();
    for (place, prompt) in (0..).zip(asked) {
        if let Some(Err(why)) = prompt
            .answer
            .as_deref()
            .map(|answer| reward.check_answer(answer))
        {
            return Err(Error::prompt(&prompts, prompt, why));
        }
        let mut completions = texts(request, prompt);
        if let Some(engine) = &mut engine {
            completions.extend(sampled(request, config, engine, prompt, place).await?);
        }
        let completions = score(&mut *reward, prompt, completions).await?;
        let tried = TriedPrompt {
            file: prompts.path_of(prompt).to_owned(),
            line: prompt.line,
            prompt: prompt.text.clone(),
            answer: prompt.answer.clone(),
            completions,
        };
        let without = |one: &&TriedCompletion| one.reward.is_none();
        trial.failed += tried.completions.iter().filter(without).count() as u64;
        trial.unrewarded_answers += u64::from(tried.answer_is_unrewarded());
        trial.prompts.push(tried);
    }
    reward.close().await;
    Ok(trial)
}

/// Renders chats by the template of the model; without a model there must be none.
fn render(prompts: &mut PromptSet, engine: Option<&LocalEngine>, config: &RunConfig) -> Result<()> {
    if let Some(engine) = engine {
        prompts.render(|messages| engine.render(messages).map_err(|error| error.to_string()))?;
        return Ok(());
    }
    let is_chat = |prompt: &&Prompt| prompt.form == Form::Messages;
    match prompts.prompts().iter().find(is_chat) {
        None => Ok(()),
        Some(chat) => {
            let how = if config.prompts.chat {
                " (prompts.chat = true)"
            } else {
                ""
            };
            let why = format!("is a chat{how}: name the model whose template renders it");
            Err(Error::prompt(prompts, chat, why))
        }
    }
}

/// Returns the completions that need no model.
fn texts(request: &TrialRequest, prompt: &Prompt) -> Vec<(Origin, String, Option<u64>)> {
    let known = prompt
        .answer
        .iter()
        .map(|answer| (Origin::KnownAnswer, answer.clone()));
    let empty = [(Origin::Empty, String::new())];
    let given = request
        .completions
        .iter()
        .map(|text| (Origin::Given, text.clone()));
    let all = known.chain(empty).chain(given);
    all.map(|(origin, text)| (origin, text, None)).collect()
}

async fn sampled(
    request: &TrialRequest,
    config: &RunConfig,
    engine: &mut LocalEngine,
    prompt: &Prompt,
    place: u64,
) -> Result<Vec<(Origin, String, Option<u64>)>> {
    let asked = SampleRequest {
        prompt: Arc::new(prompt.clone()),
        turn: None,
        group: GroupId([0; 16]),
        samples: request.samples,
        seed: group_seed(config.seed, place),
        sampling: Sampling {
            max_tokens: config.rollout.max_tokens,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
        },
    };
    let groups = all_groups(engine.sample(vec![asked]), 1).await?;
    let samples = groups.into_iter().flatten().map(|sample| {
        let tokens = sample.completion_tokens.len() as u64;
        (Origin::Sampled, sample.completion_text, Some(tokens))
    });
    Ok(samples.collect())
}

async fn score(
    reward: &mut dyn Reward,
    prompt: &Prompt,
    completions: Vec<(Origin, String, Option<u64>)>,
) -> Result<Vec<TriedCompletion>> {
    let item = |completion: &String| RewardItem::new(prompt, completion.clone());
    let items = completions
        .iter()
        .map(|(_, completion, _)| item(completion));
    let scores = reward.score(items.collect()).await?;
    let tried = completions.into_iter().zip(scores);
    let tried = tried.map(|((origin, completion, tokens), score)| {
        let (reward, parts, failure) = match score {
            Ok(score) => (Some(score.reward), score.parts, None),
            Err(failure) => (None, None, Some(failure.to_string())),
        };
        TriedCompletion {
            origin,
            completion,
            tokens,
            reward,
            parts,
            failure,
        }
    });
    Ok(tried.collect())
}

impl TriedPrompt {
    /// Returns true if the known answer earns no more than an empty completion.
    fn answer_is_unrewarded(&self) -> bool {
        let of = |origin| {
            let mut all = self.completions.iter();
            all.find(|one| one.origin == origin)
                .and_then(|one| one.reward)
        };
        match (of(Origin::KnownAnswer), of(Origin::Empty)) {
            (Some(answer), Some(empty)) => answer <= empty,
            _ => false,
        }
    }
}

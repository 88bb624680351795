//! What a user can get wrong is looked at before there is a folder, a process or a warm start:
//! prompts, model, reward, broker.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use vintage_local::NO_CHAT_TEMPLATE;
use vintage_model::{Messages, ModelConfig, ModelFolder, Tokenizer};
use vintage_rollout::{Form, PromptSet, Reward, open_reward};

use crate::{
    Error, Result,
    base::{characters, teacher},
    broker::connect,
    config::{PromptsConfig, RunConfig, TeacherKind, presets},
    settings::rollout_config,
    tasks::{asked, refuse_overlap},
};

/// A broker that does not answer for this long is not there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses inputs no run can work with. Writes nothing.
pub(crate) async fn check(config: &RunConfig) -> Result<()> {
    check_files(config)?;
    check_broker(config).await
}

/// The same without the broker, which a recorded log does not need.
pub(crate) fn check_files(config: &RunConfig) -> Result<()> {
    let (mut train, mut heldout) = load(&config.prompts)?;
    // A path is only for messages here.
    let rollout = rollout_config(config, train.path())?;
    let reward = open_reward(&rollout.reward)?;
    if let Some(heldout) = &heldout {
        refuse_overlap(&train, heldout)?;
    }
    let (tokenizer, chat, context) = if let Some(path) = &config.model.path {
        let folder = ModelFolder::open(path).map_err(|error| {
            Error::Usage(format!(
                "model.path = {}: {error}; export the model again, name another folder, or write \
                 hf://OWNER/NAME for a model of the local Hugging Face cache",
                path.display()
            ))
        })?;
        let context = folder.config.max_position_embeddings;
        (folder.tokenizer, folder.chat, context)
    } else {
        let sets = std::iter::once(&train).chain(&heldout);
        let tokenizer = Tokenizer::characters(&characters(config, sets))?;
        let context = ModelConfig::tiny(tokenizer.vocab_size()).max_position_embeddings;
        (tokenizer, None, context)
    };
    let render = |messages: &str| match &chat {
        None => Err(NO_CHAT_TEMPLATE.to_owned()),
        Some(chat) => Messages::from_json(messages)
            .and_then(|messages| chat.render(&messages, true))
            .map_err(|error| error.to_string()),
    };
    for set in std::iter::once(&mut train).chain(&mut heldout) {
        set.render(render)?;
        if reward.needs_answer() {
            set.require_answers()?;
        }
        check_answers(reward.as_ref(), set)?;
        check_lengths(config, set, &tokenizer, context)?;
    }
    Ok(())
}

/// Refuses a broker that does not answer, where it is somebody else's.
pub(crate) async fn check_broker(config: &RunConfig) -> Result<()> {
    if !matches!(config.broker.as_str(), "embedded" | "local") {
        let bus = connect(config, &config.broker)?;
        bus.health(PATIENCE).await?;
    }
    Ok(())
}

/// The sets a run will use, the built-in ones without writing them anywhere.
fn load(config: &PromptsConfig) -> Result<(PromptSet, Option<PromptSet>)> {
    let built_in = |name: &str| {
        let text = presets::data(name).unwrap_or_default();
        PromptSet::from_reader(Path::new(name), text.as_bytes())
    };
    let of_file = |path: &Option<PathBuf>| path.as_deref().map(PromptSet::load).transpose();
    let (train, mut heldout) = (of_file(&config.train)?, of_file(&config.heldout)?);
    let train = if let Some(train) = train {
        train
    } else {
        heldout = Some(heldout.map_or_else(|| built_in("chain6/heldout.jsonl"), Ok)?);
        built_in("chain6/train.jsonl")?
    };
    Ok((asked(config, train), heldout.map(|set| asked(config, set))))
}

fn check_answers(reward: &dyn Reward, set: &PromptSet) -> Result<()> {
    for prompt in set.prompts() {
        if let Some(Err(why)) = prompt
            .answer
            .as_deref()
            .map(|answer| reward.check_answer(answer))
        {
            let path = set.path().display();
            return Err(Error::Usage(format!("{path}:{}: {why}", prompt.line)));
        }
    }
    Ok(())
}

fn check_lengths(
    config: &RunConfig,
    set: &PromptSet,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<()> {
    let max_tokens = config.rollout.max_tokens;
    let demonstrated = config.model.path.is_none()
        && config.warm_start.steps > 0
        && teacher(config) == TeacherKind::Answers;
    for prompt in set.prompts() {
        let refuse = |what: String| {
            let path = set.path().display();
            Error::Usage(format!(
                "{path}:{}: prompt {:?} {what}",
                prompt.line, prompt.id
            ))
        };
        let tokens = match prompt.form {
            Form::Rendered => tokenizer.encode_rendered(&prompt.text),
            _ => tokenizer.encode(&prompt.text),
        };
        let tokens = tokens
            .map_err(|error| refuse(format!("is not in the model's vocabulary: {error}")))?
            .len();
        if tokens + max_tokens > context {
            return Err(refuse(format!(
                "has {tokens} tokens, and with rollout.max_tokens = {max_tokens} exceeds the \
                 model's context of {context}: shorten it, or lower rollout.max_tokens"
            )));
        }
        let answer = prompt
            .answer
            .as_deref()
            .map_or(0, |answer| answer.chars().count());
        if demonstrated && answer > max_tokens {
            return Err(refuse(format!(
                "has an answer of {answer} characters, and a completion has at most \
                 {max_tokens} tokens: set rollout.max_tokens to at least {answer}"
            )));
        }
    }
    Ok(())
}

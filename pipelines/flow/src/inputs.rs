//! What a user can get wrong is looked at before there is a folder, a process or a warm start:
//! prompts, model, reward, broker.

use std::time::Duration;

use vintage_bus::Bus;
use vintage_model::{ModelConfig, ModelFolder, Tokenizer};
use vintage_rollout::{PromptSet, open_reward};

use crate::{
    Error, Result,
    base::{characters, teacher},
    config::{RunConfig, TeacherKind},
    settings::rollout_config,
    tasks::refuse_overlap,
};

/// A broker that does not answer for this long is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses inputs no run can work with. Writes nothing.
pub(crate) async fn check(config: &RunConfig) -> Result<()> {
    let load = |path: &Option<_>| path.as_deref().map(PromptSet::load).transpose();
    let (train, heldout) = (load(&config.prompts.train)?, load(&config.prompts.heldout)?);
    let sets: Vec<_> = [&train, &heldout].into_iter().flatten().collect();
    let (tokenizer, context) = match &config.model.path {
        Some(path) => {
            let folder = ModelFolder::open(path).map_err(|error| {
                Error::Usage(format!(
                    "model.path = {}: {error}; export the model again, or name another folder",
                    path.display()
                ))
            })?;
            (folder.tokenizer, folder.config.max_position_embeddings)
        }
        None => {
            let tokenizer = Tokenizer::characters(&characters(config, sets.iter().copied()))?;
            let context = ModelConfig::tiny(tokenizer.vocab_size()).max_position_embeddings;
            (tokenizer, context)
        }
    };
    if let (Some(train), Some(heldout)) = (&train, &heldout) {
        refuse_overlap(train, heldout)?;
    }
    for set in &sets {
        if config.rollout.reward.command.is_empty() {
            set.require_answers()?;
        }
        check_lengths(config, set, &tokenizer, context)?;
    }
    // The built-in prompts fit; a path is only for messages here.
    let rollout = rollout_config(config, std::path::Path::new("prompts"))?;
    open_reward(&rollout.reward)?;
    if !matches!(config.broker.as_str(), "embedded" | "local") {
        Bus::connect(&config.broker, &config.broker_options)?
            .health(PATIENCE)
            .await?;
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
        let tokens = tokenizer
            .encode(&prompt.text)
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

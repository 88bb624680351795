//! Checks of the user's inputs before a folder, a process or a warm start exists: prompts, model,
//! reward, broker.

use std::path::Path;
use vintage_settings::{RunConfig, TeacherKind};

use tokio_util::sync::CancellationToken;
use vintage_local::NO_CHAT_TEMPLATE;
use vintage_model::{ChatTemplate, DecoderConfig, Messages, ModelFolder, Tokenizer};
use vintage_rollout::{Form, Prompt, PromptSet, Reward, open_reward};

use crate::{
    broker::{PATIENCE, connect},
    devices::devices,
    error::{Error, Result},
    memory::{Lengths, Prediction},
    prepared::{Prepared, Question, start_environment},
    prompts::PromptSets,
    version_zero::{characters, teacher},
};

/// Place of the training, as seen from the process whose inputs are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trains {
    /// Training in this process, so the learner must fit this machine.
    Here,
    /// Training in another process; this one only samples or evaluates.
    Elsewhere,
}

/// Refuses inputs that no run can work with, and returns them as they were checked. A program that
/// judges completions is asked once, which `stop` ends. Writes nothing.
pub(crate) async fn check(
    config: &RunConfig,
    trains: Trains,
    stop: &CancellationToken,
) -> Result<Prepared> {
    let mut prepared = check_files(config, trains)?;
    check_broker(config).await?;
    if let (Some(question), Some(reward)) = (prepared.question.take(), &mut prepared.reward) {
        tokio::select! {
            asked = question.ask(reward.as_mut()) => asked?,
            () = stop.cancelled() => return Err(Error::Interrupted),
        }
    }
    Ok(prepared)
}

/// Refuses prompts, model, reward and settings that no run can work with. Leaves out the broker,
/// which a recorded log does not need.
pub(crate) fn check_files(config: &RunConfig, trains: Trains) -> Result<Prepared> {
    if trains == Trains::Here {
        let _is_there = devices().describe(config.learner.device)?;
    }
    let task = PromptSets::read(&config.prompts)?;
    for note in task.sets().flat_map(PromptSet::notes) {
        tracing::warn!("{note}");
    }
    let reward = open_reward(&config.rollout)?;
    let environment = start_environment(config)?;
    task.refuse_overlap()?;
    let judged = !config.rollout.reward.command.is_empty() && environment.is_none();
    if trains == Trains::Elsewhere && config.model.path.is_none() {
        // The model is version 0 in the store, and the producer checks the prompts against that.
        for set in task.sets() {
            if reward.needs_answer() {
                set.require_answers()?;
            }
            check_answers(reward.as_ref(), set)?;
        }
        return Ok(Prepared {
            question: judged.then(|| Question::first_of(&task.train)).flatten(),
            task,
            reward: Some(reward),
            environment,
            model: None,
        });
    }
    let mut described = Described::of(config, &task)?;
    // Predicted before the weights are read, so that a model that cannot fit is not read.
    let shape = described.config().clone();
    let refuse_too_large = |train, heldout| match trains {
        Trains::Here => Prediction::new(config, &shape, train, heldout).refuse_too_large(),
        Trains::Elsewhere => Ok(()),
    };
    refuse_too_large(Some(Lengths::default()), None)?;
    if let (Some(path), Described::Folder(folder)) = (&config.model.path, &mut described) {
        let read = folder.read_weights(path);
        read.map_err(|error| bad_model(path, &error))?;
        for note in folder.notes() {
            tracing::warn!("model.path = {}: {note}", path.display());
        }
    }
    let rendered = |set: &PromptSet| -> Result<PromptSet> {
        let mut set = set.clone();
        set.render(|messages| described.render(messages))?;
        if described.chat().is_some()
            && let Some(note) = asked_plainly(&set)
        {
            tracing::warn!("{note}");
        }
        if environment.is_some() {
            set.require_chats()?;
        }
        if reward.needs_answer() {
            set.require_answers()?;
        }
        check_answers(reward.as_ref(), &set)?;
        Ok(set)
    };
    let train = rendered(&task.train)?;
    let question = judged.then(|| Question::first_of(&train)).flatten();
    let heldout = task.heldout.as_ref().map(rendered).transpose()?;
    let train = check_lengths(config, &train, &described)?;
    let heldout = heldout.map(|set| check_lengths(config, &set, &described));
    refuse_too_large(Some(train), heldout.transpose()?)?;
    Ok(Prepared {
        task,
        reward: Some(reward),
        environment,
        model: match (trains, described) {
            (Trains::Here, Described::Folder(folder)) => Some(folder),
            _ => None,
        },
        question,
    })
}

/// Warns of plain-text prompts for a model with a chat template. Most such models were tuned on
/// chats alone, but base models have templates too, so the choice is left to the user.
fn asked_plainly(set: &PromptSet) -> Option<String> {
    let is_plain = |prompt: &&Prompt| prompt.form == Form::Plain;
    let plain = set.prompts().iter().filter(is_plain).count();
    (plain > 0).then(|| {
        format!(
            "{}: {plain} prompts are asked as plain text, and the model has a chat template; a \
             model that was tuned on chats needs prompts.chat = true",
            set.name()
        )
    })
}

/// Model of a run, as the checks need it.
enum Described {
    /// The configured folder.
    Folder(Box<ModelFolder>),
    /// The tiny decoder over the characters of the prompts.
    Tiny(Box<(DecoderConfig, Tokenizer)>),
}

impl Described {
    /// Describes the model of a run. The weights of a folder are not read.
    fn of(config: &RunConfig, task: &PromptSets) -> Result<Self> {
        if let Some(path) = &config.model.path {
            let folder = ModelFolder::open_without_weights(path);
            let folder = folder.map_err(|error| bad_model(path, &error))?;
            return Ok(Self::Folder(Box::new(folder)));
        }
        let tokenizer = Tokenizer::characters(&characters(config, task.sets()))?;
        let config = DecoderConfig::tiny(tokenizer.vocab_size());
        Ok(Self::Tiny(Box::new((config, tokenizer))))
    }

    fn config(&self) -> &DecoderConfig {
        match self {
            Self::Folder(folder) => &folder.config,
            Self::Tiny(tiny) => &tiny.0,
        }
    }

    fn chat(&self) -> Option<&ChatTemplate> {
        match self {
            Self::Folder(folder) => folder.chat.as_ref(),
            Self::Tiny(_) => None,
        }
    }

    fn render(&self, chat: &str) -> std::result::Result<String, String> {
        match self.chat() {
            None => Err(NO_CHAT_TEMPLATE.to_owned()),
            Some(template) => Messages::from_json(chat)
                .and_then(|chat| template.render(&chat, true))
                .map_err(|error| error.to_string()),
        }
    }

    fn tokens(&self, prompt: &Prompt) -> std::result::Result<usize, vintage_model::Error> {
        let tokenizer = match self {
            Self::Folder(folder) => &folder.tokenizer,
            Self::Tiny(tiny) => &tiny.1,
        };
        let tokens = match prompt.form {
            Form::Rendered => tokenizer.encode_rendered(&prompt.text),
            _ => tokenizer.encode(&prompt.text),
        };
        Ok(tokens?.len())
    }
}

fn bad_model(path: &Path, error: &vintage_model::Error) -> Error {
    Error::Setting {
        setting: format!("model.path = {}", path.display()),
        reason: format!(
            "{error}; mend the folder, name another, or write hf://OWNER/NAME for a model of the \
             Hugging Face hub"
        ),
    }
}

/// Predicted memory of a run.
pub(crate) struct Predicted {
    pub(crate) prediction: Prediction,
    /// True if prompts could not be read, so that micro-batches are assumed to be full.
    pub(crate) full: bool,
}

/// Predicts memory from the settings, the prompts and the model without its weights; `None` if
/// prompts or model cannot be loaded.
pub(crate) fn predict(config: &RunConfig) -> Option<Predicted> {
    let mut task = PromptSets::read(&config.prompts).ok()?;
    let described = Described::of(config, &task).ok()?;
    let lengths = |set: &mut PromptSet| {
        set.render(|messages| described.render(messages)).ok()?;
        let lengths = set.prompts().iter().map(|prompt| described.tokens(prompt));
        let lengths: Vec<_> = lengths.collect::<std::result::Result<_, _>>().ok()?;
        Some(Lengths::of(lengths))
    };
    let train = lengths(&mut task.train);
    let heldout = task.heldout.as_mut().and_then(lengths);
    Some(Predicted {
        prediction: Prediction::new(config, described.config(), train, heldout),
        full: train.is_none(),
    })
}

/// Refuses a broker at an address that does not answer. Embedded and local brokers are not checked.
pub(crate) async fn check_broker(config: &RunConfig) -> Result<()> {
    if !matches!(config.broker.as_str(), "embedded" | "local") {
        let bus = connect(config, &config.broker)?;
        bus.health(PATIENCE).await?;
    }
    Ok(())
}

/// Refuses prompts whose known answers the reward cannot compare with.
pub(crate) fn check_answers(reward: &dyn Reward, set: &PromptSet) -> Result<()> {
    for prompt in set.prompts() {
        if let Some(Err(why)) = prompt
            .answer
            .as_deref()
            .map(|answer| reward.check_answer(answer))
        {
            return Err(Error::prompt(set, prompt, why));
        }
    }
    Ok(())
}

fn check_lengths(config: &RunConfig, set: &PromptSet, described: &Described) -> Result<Lengths> {
    let context = described.config().max_position_embeddings;
    let mut lengths = Vec::with_capacity(set.len());
    let max_tokens = config.rollout.max_tokens;
    let demonstrated = config.model.path.is_none()
        && config.warm_start.steps > 0
        && teacher(config) == TeacherKind::Answers;
    for prompt in set.prompts() {
        let refuse =
            |what: String| Error::prompt(set, prompt, format!("prompt {:?} {what}", prompt.id));
        let tokens = described
            .tokens(prompt)
            .map_err(|error| refuse(format!("is not in the model's vocabulary: {error}")))?;
        if tokens == 0 {
            let what = "encodes to no tokens: look whether the prompt, or what the model's chat \
                        template makes of it, is empty";
            return Err(refuse(what.to_owned()));
        }
        if tokens + max_tokens > context {
            return Err(refuse(format!(
                "has {tokens} tokens, and with rollout.max_tokens = {max_tokens} exceeds the \
                 model's context of {context}: shorten it, or lower rollout.max_tokens"
            )));
        }
        let budget = config.learner.micro_batch_tokens;
        if tokens + max_tokens > budget {
            return Err(refuse(format!(
                "has {tokens} tokens, and with rollout.max_tokens = {max_tokens} does not fit a \
                 micro-batch of learner.micro_batch_tokens = {budget}: raise that, shorten the \
                 prompt, or lower rollout.max_tokens"
            )));
        }
        let episode = config.rollout.environment.episode_tokens;
        let episode = episode.filter(|_| config.rollout.environment.is_set());
        if let Some(most) = episode.filter(|most| tokens + max_tokens > *most) {
            return Err(refuse(format!(
                "has {tokens} tokens, and with rollout.max_tokens = {max_tokens} does not fit an \
                 episode of rollout.environment.episode_tokens = {most}: raise that, shorten the \
                 prompt, or lower rollout.max_tokens"
            )));
        }
        lengths.push(tokens);
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
    Ok(Lengths::of(lengths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prompts_for_a_model_with_a_template_are_told() {
        let set = |rows: &str| PromptSet::from_reader(Path::new("p.jsonl"), rows.as_bytes());
        let chats = r#"{"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}"#;
        assert_eq!(asked_plainly(&set(chats).expect("rows")), None);
        let both = format!("{chats}\n{{\"prompt\": \"2+2=\", \"answer\": \"4\"}}");
        let note = asked_plainly(&set(&both).expect("rows")).expect("a note");
        assert!(note.starts_with("p.jsonl: 1 prompts"), "{note}");
        assert!(note.contains("prompts.chat = true"), "{note}");
    }
}

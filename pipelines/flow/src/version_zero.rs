//! Version 0 of a run: a model folder unchanged, or the tiny decoder after its warm start.

use std::collections::{BTreeMap, BTreeSet};
use vintage_settings::{BuiltInTask, RunConfig, TeacherKind};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use vintage_control::PolicyVersion;
use vintage_learner::{Demonstration, WarmStart, warm_start};
use vintage_model::{Decoder, DecoderConfig, ModelFolder, ParamSet, Tokenizer};
use vintage_rollout::PromptSet;
use vintage_store::Weights;

use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
    hub::fetch_missing,
    prompts::PromptSets,
    teacher::Teacher,
};

/// Publishes version 0 unless it exists: a version names one set of weights for ever. The model is
/// read from its folder if it was not checked here.
pub(crate) async fn ensure_version_zero(
    weights: &Weights,
    config: &RunConfig,
    task: &PromptSets,
    checked: Option<Box<ModelFolder>>,
    events: &Events,
) -> Result<()> {
    if weights.manifest(PolicyVersion::ZERO).await?.is_some() {
        return Ok(());
    }
    let base = match (checked, &config.model.path) {
        (Some(checked), _) => checked.files()?,
        (None, Some(path)) => {
            // The role that checked the inputs may have run on another machine.
            fetch_missing(config, events, &CancellationToken::new()).await?;
            ModelFolder::open(path)?.files()?
        }
        (None, None) => tiny(config, task, events.clone()).await?,
    };
    let files = base
        .into_iter()
        .map(|(name, bytes)| (name, Bytes::from(bytes)));
    // Another role of the run may have published version 0 first; the published weights are kept.
    let _published = weights
        .publish(PolicyVersion::ZERO, files.collect())
        .await?;
    Ok(())
}

/// Copies version 0 of another policy to this one, unless this one has a version 0 already.
pub(crate) async fn adopt_version_zero(weights: &Weights, from: &Weights) -> Result<()> {
    if weights.manifest(PolicyVersion::ZERO).await?.is_some() {
        return Ok(());
    }
    let model = from.fetch(PolicyVersion::ZERO).await?;
    let mut files = vec![("model.safetensors", model)];
    files.extend(companions(from).await?);
    let _published = weights.publish(PolicyVersion::ZERO, files).await?;
    Ok(())
}

/// Returns the files of version 0 besides its weights: config, tokenizer, chat template, as far as
/// they exist.
pub(crate) async fn companions(weights: &Weights) -> Result<Vec<(&'static str, Bytes)>> {
    let mut files = Vec::new();
    for name in ModelFolder::FILES {
        let file = weights.fetch_file(PolicyVersion::ZERO, name).await?;
        files.extend(file.map(|file| (name, file)));
    }
    Ok(files)
}

/// Files of version 0 as pairs of name and content; the weights come first.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Builds the tiny decoder with a character tokenizer for the task, and warm-starts it if
/// `warm_start.steps` is above 0.
async fn tiny(config: &RunConfig, task: &PromptSets, events: Events) -> Result<Files> {
    let tokenizer = Tokenizer::characters(&characters(config, task.sets()))?;
    let mut model = DecoderConfig::tiny(tokenizer.vocab_size());
    model.eos_token_id = tokenizer.eos_ids().to_vec();
    let params = ParamSet::init(&model, config.seed)?;
    let mut decoder = Decoder::new(model.clone(), params)?;
    if config.warm_start.steps > 0 {
        let _nobody_listens = events.send(RunEvent::Phase("warm start".to_owned()));
        let demonstrations = Demonstrations::new(config, task, &tokenizer)?;
        let steps = config.warm_start.steps;
        let settings = WarmStart {
            steps,
            warmup: config.warm_start.warmup,
            lr: config.warm_start.lr,
            weight_decay: config.warm_start.weight_decay,
        };
        let training = tokio::task::spawn_blocking(move || {
            let of_step = |step| demonstrations.of_step(step);
            warm_start(&mut decoder, &settings, of_step, |step, loss| {
                let _nobody_listens = events.send(RunEvent::WarmStart { step, steps, loss });
            })?;
            Ok::<_, Error>(decoder)
        });
        decoder = training
            .await
            .map_err(Error::panicked("the warm start"))??;
    }
    Ok(vec![
        ("model.safetensors", decoder.params().to_safetensors()?),
        ("config.json", model.to_json().into_bytes()),
        ("tokenizer.json", tokenizer.to_json()?.into_bytes()),
    ])
}

/// Returns the teacher of the warm start: the configured one, else that of the built-in task, and the
/// rows' own answers for prompts from a file.
pub(crate) fn teacher(config: &RunConfig) -> TeacherKind {
    let usual = match (&config.prompts.train, config.prompts.task) {
        (Some(_own), _) => TeacherKind::Answers,
        (None, BuiltInTask::Sums) => TeacherKind::RunningSum,
        (None, BuiltInTask::Sort | BuiltInTask::EvensFirst) => TeacherKind::Shuffled,
    };
    config.warm_start.teacher.unwrap_or(usual)
}

/// Returns every character that the prompts, their answers or the teacher use.
pub(crate) fn characters<'a>(
    config: &RunConfig,
    sets: impl IntoIterator<Item = &'a PromptSet>,
) -> BTreeSet<char> {
    let prompts = sets.into_iter().flat_map(PromptSet::prompts);
    let mut all: BTreeSet<_> = prompts
        .flat_map(|prompt| [Some(&prompt.text), prompt.answer.as_ref()])
        .flatten()
        .flat_map(|text| text.chars())
        .collect();
    if teacher(config) == TeacherKind::RunningSum {
        all.extend('0'..='9');
    }
    all
}

/// Demonstrations of the warm start's teacher, as token ids.
struct Demonstrations {
    prompts: Vec<Vec<u32>>,
    teacher: Teacher,
    /// Token id of each character of the task; every answer of the teacher consists of these.
    ids: BTreeMap<char, u32>,
    max_tokens: usize,
}

impl Demonstrations {
    fn new(config: &RunConfig, task: &PromptSets, tokenizer: &Tokenizer) -> Result<Self> {
        let max_tokens = config.rollout.max_tokens;
        let rows = task.train.prompts();
        let mut ids = BTreeMap::new();
        for character in characters(config, task.sets()) {
            if let [id] = tokenizer.encode(&character.to_string())?[..] {
                ids.insert(character, id);
            }
        }
        Ok(Self {
            prompts: rows
                .iter()
                .map(|prompt| Ok(tokenizer.encode(&prompt.text)?))
                .collect::<Result<_>>()?,
            teacher: Teacher::new(
                &config.warm_start,
                teacher(config),
                config.seed,
                &task.train,
            )?,
            ids,
            max_tokens,
        })
    }

    fn of_step(&self, step: u64) -> Vec<Demonstration> {
        let shown = self.teacher.step(step).into_iter();
        shown
            .map(|(row, answer)| {
                let ids = answer
                    .chars()
                    .filter_map(|character| self.ids.get(&character));
                let mut completion: Vec<u32> = ids.copied().collect();
                // The end token is cut off an answer that fills the token budget: sampling stops
                // there anyway.
                completion.push(Tokenizer::CHARACTERS_EOS);
                completion.truncate(self.max_tokens);
                Demonstration {
                    prompt: self.prompts[row].clone(),
                    completion,
                }
            })
            .collect()
    }
}

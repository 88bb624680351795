//! Version 0: a model folder as it is, or the tiny decoder after its warm start.

use std::collections::BTreeSet;

use bytes::Bytes;
use vintage_control::PolicyVersion;
use vintage_learner::{Demonstration, WarmStart, warm_start};
use vintage_model::{Decoder, ModelConfig, ModelFolder, ParamSet, Tokenizer};
use vintage_rollout::PromptSet;
use vintage_store::Weights;

use crate::{
    Error, Result,
    config::RunConfig,
    event::{Events, RunEvent},
    tasks::Task,
    teacher::Teacher,
};

/// Publishes version 0 unless it is there already: a version names one set of weights for ever.
pub(crate) async fn ensure_version_zero(
    weights: &Weights,
    config: &RunConfig,
    task: &Task,
    events: &Events,
) -> Result<()> {
    if weights.manifest(PolicyVersion::ZERO).await?.is_some() {
        return Ok(());
    }
    let base = match &config.model.path {
        Some(path) => ModelFolder::open(path)?.files()?,
        None => {
            let _nobody_listens = events.send(RunEvent::Phase("warm start".to_owned()));
            warm_tiny(config, task, events.clone()).await?
        }
    };
    let files = base
        .into_iter()
        .map(|(name, bytes)| (name, Bytes::from(bytes)));
    // Another role of the run may have been first: what is published stays.
    let _published = weights
        .publish(PolicyVersion::ZERO, files.collect())
        .await?;
    Ok(())
}

/// Opens the model folder the configuration names, if any: a mistake in it is found before there
/// is a run's folder.
pub(crate) fn check_model(config: &RunConfig) -> Result<()> {
    if let Some(path) = &config.model.path {
        ModelFolder::open(path)?;
    }
    Ok(())
}

/// The files of version 0, weights first.
type Files = Vec<(&'static str, Vec<u8>)>;

async fn warm_tiny(config: &RunConfig, task: &Task, events: Events) -> Result<Files> {
    let tokenizer = Tokenizer::characters(&characters(task))?;
    let mut model = ModelConfig::tiny(tokenizer.vocab_size());
    model.eos_token_id = tokenizer.eos_ids().to_vec();
    let params = ParamSet::init(&model, config.seed)?;
    let decoder = Decoder::new(model.clone(), params)?;
    let teacher = Teacher::new(&config.warm_start, config.seed, &task.train)?;
    let demonstrations = Demonstrations {
        prompts: encode_all(&tokenizer, &task.train)?,
        eos: Tokenizer::CHARACTERS_EOS,
        max_tokens: config.rollout.max_tokens,
        teacher,
        tokenizer: tokenizer.clone(),
    };
    let settings = WarmStart {
        steps: config.warm_start.steps,
        warmup: config.warm_start.warmup,
        lr: config.warm_start.lr,
        weight_decay: config.warm_start.weight_decay,
    };
    let training = tokio::task::spawn_blocking(move || -> Result<Decoder> {
        let mut decoder = decoder;
        let mut failed = None;
        warm_start(
            &mut decoder,
            &settings,
            |step| {
                demonstrations.of_step(step).unwrap_or_else(|error| {
                    failed.get_or_insert(error);
                    Vec::new()
                })
            },
            |step, loss| {
                let steps = settings.steps;
                let _nobody_listens = events.send(RunEvent::WarmStart { step, steps, loss });
            },
        )
        .map_err(|error| failed.take().unwrap_or(Error::Learner(error)))?;
        Ok(decoder)
    });
    let decoder = training
        .await
        .map_err(|error| Error::Role(format!("the warm start panicked: {error}")))??;
    Ok(vec![
        ("model.safetensors", decoder.params().to_safetensors()?),
        ("config.json", model.to_json().into_bytes()),
        ("tokenizer.json", tokenizer.to_json()?.into_bytes()),
    ])
}

/// Every character the task uses.
fn characters(task: &Task) -> BTreeSet<char> {
    let sets = std::iter::once(&task.train).chain(&task.heldout);
    sets.flat_map(PromptSet::prompts)
        .flat_map(|prompt| {
            prompt
                .text
                .chars()
                .chain(prompt.answer.iter().flat_map(|a| a.chars()))
        })
        .collect()
}

fn encode_all(tokenizer: &Tokenizer, prompts: &PromptSet) -> Result<Vec<Vec<u32>>> {
    prompts
        .prompts()
        .iter()
        .map(|prompt| Ok(tokenizer.encode(&prompt.text)?))
        .collect()
}

struct Demonstrations {
    prompts: Vec<Vec<u32>>,
    teacher: Teacher,
    tokenizer: Tokenizer,
    eos: u32,
    max_tokens: usize,
}

impl Demonstrations {
    fn of_step(&self, step: u64) -> Result<Vec<Demonstration>> {
        self.teacher
            .step(step)
            .into_iter()
            .map(|(row, answer)| {
                let mut completion = self.tokenizer.encode(&answer)?;
                // An answer that fills the budget needs no end: sampling stops there anyway.
                completion.push(self.eos);
                completion.truncate(self.max_tokens);
                Ok(Demonstration {
                    prompt: self.prompts[row].clone(),
                    completion,
                })
            })
            .collect()
    }
}

//! Inputs of a role: parsed once, when they are checked, and handed on to the role that is built from
//! them.

use std::path::Path;

use vintage_local::LocalEngine;
use vintage_model::ModelFolder;
use vintage_rollout::{
    Closing, ConversingEngine, Engine, Environment, Form, PromptSet, Reward, RewardItem,
    open_environment, open_reward,
};
use vintage_settings::RunConfig;

use crate::{
    error::{Error, Result},
    prompts::PromptSets,
};

/// Prompts, reward and model of a role.
pub(crate) struct Prepared {
    /// Prompts, chats not rendered: that takes the template of version 0.
    pub(crate) task: PromptSets,
    /// Reward that was opened for the check; `None` if none was checked.
    pub(crate) reward: Option<Box<dyn Reward>>,
    /// Environment that was started for the check; `None` if none was, or none is set.
    pub(crate) environment: Option<Environment>,
    /// Model that was opened for the check, with its weights; `None` if none was checked, or if this
    /// process does not train.
    pub(crate) model: Option<Box<ModelFolder>>,
    /// First training prompt with its known answer, for a program that judges completions; `None` if
    /// none does, if none was checked, or if only version 0 can render the prompt.
    pub(crate) question: Option<Question>,
}

/// Prompt with a completion that a reward is tried with.
pub(crate) struct Question {
    /// File and line of the prompt.
    pub(crate) place: String,
    /// Question as the reward is asked in training.
    pub(crate) item: RewardItem,
}

impl Question {
    /// Returns the first prompt of a set with its known answer as the completion.
    pub(crate) fn first_of(set: &PromptSet) -> Option<Self> {
        let prompt = set.prompts().first()?;
        (prompt.form != Form::Messages).then(|| Self {
            place: format!("{}:{}", set.path_of(prompt).display(), prompt.line),
            item: RewardItem::new(prompt, prompt.answer.clone().unwrap_or_default()),
        })
    }

    /// Asks the reward.
    ///
    /// # Errors
    /// No reward, for the reason that the program or its process gives.
    pub(crate) async fn ask(self, reward: &mut dyn Reward) -> Result<()> {
        let failed = match reward.score(vec![self.item]).await {
            Ok(scores) => scores
                .into_iter()
                .find_map(Result::err)
                .map(|failure| failure.to_string()),
            Err(error) => Some(error.to_string()),
        };
        failed.map_or(Ok(()), |why| {
            Err(Error::Setting {
                setting: "rollout.reward.command".to_owned(),
                reason: format!(
                    "was tried with the first prompt ({}) and its known answer, and gave no \
                     reward (`vintage reward test` shows what it answers): {why}",
                    self.place
                ),
            })
        })
    }
}

impl Prepared {
    /// Returns the checked inputs of a run that begins, or reads those of a run that has begun,
    /// whose prompts were checked then. The sets of the built-in task are written into `folder`.
    pub(crate) fn in_folder(
        checked: Option<Self>,
        config: &RunConfig,
        folder: &Path,
    ) -> Result<Self> {
        let Some(checked) = checked else {
            return Ok(Self {
                task: PromptSets::load(&config.prompts, folder)?,
                reward: None,
                environment: None,
                model: None,
                question: None,
            });
        };
        Ok(Self {
            task: checked.task.keep_in(&config.prompts, folder)?,
            ..checked
        })
    }

    /// Takes the checked reward; opens one if none was checked or it is taken.
    pub(crate) fn reward(&mut self, config: &RunConfig) -> Result<Box<dyn Reward>> {
        match self.reward.take() {
            Some(checked) => Ok(checked),
            None => Ok(open_reward(&config.rollout)?),
        }
    }

    /// Takes the started environment; starts one if the settings name one and none was, or it is
    /// taken.
    pub(crate) fn environment(&mut self, config: &RunConfig) -> Result<Option<Environment>> {
        match self.environment.take() {
            Some(started) => Ok(Some(started)),
            None => start_environment(config),
        }
    }
}

/// Starts the environment of a run, if the settings name one. Its episodes fit a micro-batch.
pub(crate) fn start_environment(config: &RunConfig) -> Result<Option<Environment>> {
    let mut rollout = config.rollout.clone();
    let most = config.learner.micro_batch_tokens;
    rollout.environment.episode_tokens.get_or_insert(most);
    Ok(open_environment(&rollout)?)
}

/// Lets `engine` sample episodes, if the settings name an environment: one of its own, so that its
/// episodes' numbers are not mixed with the producer's. Returns the environment's end, too.
pub(crate) fn conversing(
    engine: LocalEngine,
    config: &RunConfig,
) -> Result<(Box<dyn Engine>, Option<Closing>)> {
    Ok(match start_environment(config)? {
        Some(environment) => {
            let (conversing, end) = ConversingEngine::new(Box::new(engine), environment);
            (Box::new(conversing), Some(end))
        }
        None => (Box::new(engine), None),
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use vintage_control::{Name, PolicyVersion};
    use vintage_model::{DecoderConfig, ParamSet, Tokenizer};
    use vintage_store::{Store, Weights};

    use super::*;
    use crate::{
        preflight::{Trains, check_files},
        version_zero::ensure_version_zero,
    };

    fn save_model(path: &Path, seed: u64) -> Vec<u8> {
        let tokenizer = Tokenizer::characters(&"0123456789=".chars().collect()).unwrap();
        let config = DecoderConfig::tiny(tokenizer.vocab_size());
        let params = ParamSet::init(&config, seed).unwrap();
        let bytes = params.to_safetensors().unwrap();
        let folder = ModelFolder::new(config, tokenizer, params).unwrap();
        folder.save(path).unwrap();
        bytes
    }

    /// The role is built from what was checked, not from what is there afterwards.
    #[tokio::test]
    async fn inputs_replaced_after_the_check_are_not_read_again() {
        let place = tempfile::tempdir().unwrap();
        let (model, train) = (place.path().join("model"), place.path().join("train.jsonl"));
        let checked_weights = save_model(&model, 1);
        std::fs::write(&train, "{\"prompt\": \"12=\", \"answer\": \"13\"}\n").unwrap();
        let mut config = RunConfig::default();
        config.model.path = Some(model.clone());
        config.prompts.train = Some((&train).into());
        let checked = check_files(&config, Trains::Here).unwrap();

        assert_ne!(save_model(&model, 2), checked_weights);
        std::fs::write(&train, "{\"prompt\": \"98=\", \"answer\": \"97\"}\n").unwrap();
        let mut inputs = Prepared::in_folder(Some(checked), &config, place.path()).unwrap();
        assert_eq!(inputs.task.train.prompts()[0].text, "12=");
        let policy: Name = "lead".parse().unwrap();
        let store = Store::open(&place.path().join("run").to_string_lossy()).unwrap();
        let weights = Weights::new(store, policy);
        let (events, _heard) = mpsc::unbounded_channel();
        let model = inputs.model.take();
        ensure_version_zero(&weights, &config, &inputs.task, model, &events)
            .await
            .unwrap();
        let published = weights.fetch(PolicyVersion::ZERO).await.unwrap();
        assert!(published == checked_weights, "other weights than checked");
    }

    /// A process that trains nothing keeps no weights, and the built-in task is written down.
    #[test]
    fn what_no_role_of_the_process_uses_is_let_go() {
        let place = tempfile::tempdir().unwrap();
        let model = place.path().join("model");
        save_model(&model, 1);
        let mut config = RunConfig::default();
        config.model.path = Some(model);
        let checked = check_files(&config, Trains::Elsewhere).unwrap();
        assert!(checked.model.is_none() && checked.reward.is_some());
        let name = checked.task.train.files()[0].path.clone();
        let inputs = Prepared::in_folder(Some(checked), &config, place.path()).unwrap();
        let written = place.path().join("prompts").join(name);
        assert_eq!(inputs.task.train.files()[0].path, written);
        let again = vintage_rollout::PromptSet::load(&written).unwrap();
        assert_eq!(again.files(), inputs.task.train.files());
    }
}

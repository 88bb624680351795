//! Prompts of a run: those of the built-in task, or the user's files.

use std::path::{Path, PathBuf};
use vintage_config::presets;
use vintage_settings::PromptsConfig;

use vintage_rollout::PromptSet;

use crate::{
    error::{Error, Result},
    folder::{BUILT_IN_PROMPTS, write_whole},
};

/// Training and held-out prompts of a run.
pub(crate) struct Task {
    /// Prompts to train on.
    pub train: PromptSet,
    /// Prompts to evaluate on; `None` for no evaluation.
    pub heldout: Option<PromptSet>,
}

impl Task {
    /// Loads the configured files. Without any, the built-in task is first written into `folder`
    /// and then loaded from there, so both cases use the same code.
    pub(crate) fn load(config: &PromptsConfig, folder: &Path) -> Result<Self> {
        let built_in = |name: &str| -> Result<PathBuf> {
            let text = presets::data(name)
                .ok_or_else(|| Error::Usage(format!("no built-in prompts called {name}")))?;
            let path = folder.join(BUILT_IN_PROMPTS).join(name);
            let io = |attempted| {
                let path = path.clone();
                move |source| Error::Io {
                    attempted,
                    path,
                    source,
                }
            };
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(io("create the folder of"))?;
            }
            if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
                write_whole(&path, text)?;
            }
            Ok(path)
        };
        let (train, heldout) = match (&config.train, &config.heldout) {
            (Some(train), heldout) => (train.clone(), heldout.clone()),
            (None, heldout) => (
                built_in("chain6/train.jsonl")?,
                Some(match heldout {
                    Some(heldout) => heldout.clone(),
                    None => built_in("chain6/heldout.jsonl")?,
                }),
            ),
        };
        let load = |what, path: &Path| Ok::<_, Error>(asked(config, load_set(what, path)?));
        let held_out = |path| load(HELD_OUT, path);
        let task = Self {
            train: load(TRAIN, &train)?,
            heldout: heldout.as_deref().map(held_out).transpose()?,
        };
        if let Some(heldout) = &task.heldout {
            refuse_overlap(&task.train, heldout)?;
        }
        Ok(task)
    }

    /// Iterates over both sets, training prompts first.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &PromptSet> {
        std::iter::once(&self.train).chain(&self.heldout)
    }
}

/// Setting of the training prompts, as named in messages.
pub(crate) const TRAIN: &str = "prompts.train (or --prompts)";

/// Setting of the held-out prompts, as named in messages.
pub(crate) const HELD_OUT: &str = "prompts.heldout (or --heldout)";

/// Loads a file of prompts; an error names the setting that names the file.
pub(crate) fn load_set(setting: &str, path: &Path) -> Result<PromptSet> {
    PromptSet::load(path).map_err(|error| Error::Usage(format!("{setting}: {error}")))
}

/// Returns the prompts in the form in which they are asked: plain text, or chats if `prompts.chat`
/// is set.
pub(crate) fn asked(config: &PromptsConfig, prompts: PromptSet) -> PromptSet {
    if config.chat {
        prompts.as_chats()
    } else {
        prompts
    }
}

/// Refuses held-out prompts that are trained on: their accuracy would mean nothing.
pub(crate) fn refuse_overlap(train: &PromptSet, heldout: &PromptSet) -> Result<()> {
    let trained: std::collections::BTreeSet<_> =
        train.prompts().iter().map(|prompt| &prompt.text).collect();
    let mut heldout_prompts = heldout.prompts().iter();
    match heldout_prompts.find(|prompt| trained.contains(&prompt.text)) {
        None => Ok(()),
        Some(shared) => Err(Error::Usage(format!(
            "{}:{}: this held-out prompt is in {} as well: take it out of one of them",
            heldout.path().display(),
            shared.line,
            train.path().display()
        ))),
    }
}

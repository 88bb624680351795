//! The prompts of a run: the built-in task's, or the user's files.

use std::path::{Path, PathBuf};
use vintage_config::presets;
use vintage_settings::PromptsConfig;

use vintage_rollout::PromptSet;

use crate::{
    Error, Result,
    folder::{BUILT_IN_PROMPTS, write_whole},
};

/// Training and held-out prompts.
pub(crate) struct Task {
    /// Prompts to train on.
    pub train: PromptSet,
    /// Prompts to evaluate on; `None` = no evaluation.
    pub heldout: Option<PromptSet>,
}

impl Task {
    /// Loads the files the configuration names. Without any, the built-in task is written into
    /// `folder` first and read from there: the one path is the same as the other.
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

    /// Both sets, training prompts first.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &PromptSet> {
        std::iter::once(&self.train).chain(&self.heldout)
    }
}

/// Where training prompts are set.
pub(crate) const TRAIN: &str = "prompts.train (or --prompts)";

/// Where held-out prompts are set.
pub(crate) const HELD_OUT: &str = "prompts.heldout (or --heldout)";

/// Reads a file of prompts; an error names the setting that names the file.
pub(crate) fn load_set(setting: &str, path: &Path) -> Result<PromptSet> {
    PromptSet::load(path).map_err(|error| Error::Usage(format!("{setting}: {error}")))
}

/// The prompts as they are asked: plain, or as chats.
pub(crate) fn asked(config: &PromptsConfig, prompts: PromptSet) -> PromptSet {
    if config.chat {
        prompts.as_chats()
    } else {
        prompts
    }
}

/// A prompt that is trained on says nothing as a held-out one.
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

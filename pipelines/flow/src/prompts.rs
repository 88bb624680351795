//! Prompts of a run: those of the built-in task, or the user's files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use vintage_settings::{BuiltInTask, PromptFiles, PromptsConfig};

use vintage_rollout::PromptSet;

use crate::{
    error::{Error, Result},
    folder::{BUILT_IN_PROMPTS, write_whole},
    task::{self, Half},
};

/// Training and held-out prompts of a run.
pub(crate) struct PromptSets {
    /// Prompts to train on.
    pub train: PromptSet,
    /// Prompts to evaluate on; `None` for no evaluation.
    pub heldout: Option<PromptSet>,
}

impl PromptSets {
    /// Loads the task of a run that has begun: [`PromptSets::read`], [`PromptSets::keep_in`], and the check that
    /// no prompt is in both sets.
    pub(crate) fn load(config: &PromptsConfig, folder: &Path) -> Result<Self> {
        let task = Self::read(config)?.keep_in(config, folder)?;
        task.refuse_overlap()?;
        Ok(task)
    }

    /// Reads the configured files, or makes the sets of the built-in task.
    pub(crate) fn read(config: &PromptsConfig) -> Result<Self> {
        let of_files = |setting, files: &Option<PromptFiles>| {
            let files = files.as_ref();
            let loaded = files.map(|files| PromptSet::load_all(files.paths(), &config.columns));
            loaded.transpose().map_err(|error| Error::Setting {
                setting: String::from(setting),
                reason: error.to_string(),
            })
        };
        let built_in = |half| -> Result<PromptSet> {
            let name = Path::new(task::file(config.task, half));
            let text = task::rows(config.task, half)?;
            Ok(PromptSet::from_reader(name, text.as_bytes())?)
        };
        let own = of_files(TRAIN, &config.train)?;
        let own_heldout = of_files(HELD_OUT, &config.heldout)?;
        let (train, heldout) = match (own, own_heldout) {
            (Some(own), own_heldout) => (own, own_heldout),
            (None, Some(own_heldout)) => (built_in(Half::Train)?, Some(own_heldout)),
            (None, None) => (built_in(Half::Train)?, Some(built_in(Half::HeldOut)?)),
        };
        Ok(Self {
            train: asked(config, train),
            heldout: heldout.map(|set| asked(config, set)),
        })
    }

    /// Writes the built-in sets of the task into `folder`; messages name them by their files from
    /// then on.
    pub(crate) fn keep_in(self, config: &PromptsConfig, folder: &Path) -> Result<Self> {
        let keep = |set: PromptSet, half| {
            Ok::<_, Error>(set.at(&write_built_in(folder, config.task, half)?))
        };
        if config.train.is_some() {
            return Ok(self);
        }
        let of_user = config.heldout.is_some();
        let keep_heldout = |set| {
            if of_user {
                Ok(set)
            } else {
                keep(set, Half::HeldOut)
            }
        };
        Ok(Self {
            train: keep(self.train, Half::Train)?,
            heldout: self.heldout.map(keep_heldout).transpose()?,
        })
    }

    /// Refuses held-out prompts that are trained on: their accuracy would mean nothing.
    pub(crate) fn refuse_overlap(&self) -> Result<()> {
        let Some(heldout) = &self.heldout else {
            return Ok(());
        };
        let train = self.train.prompts().iter();
        let trained: BTreeSet<_> = train.map(|prompt| &prompt.text).collect();
        let mut heldout_prompts = heldout.prompts().iter();
        match heldout_prompts.find(|prompt| trained.contains(&prompt.text)) {
            None => Ok(()),
            Some(shared) => {
                let mut trained = self.train.prompts().iter();
                let trained = trained.find(|prompt| prompt.text == shared.text);
                let train = trained.map_or_else(
                    || self.train.name(),
                    |prompt| self.train.path_of(prompt).display().to_string(),
                );
                let reason = format!(
                    "this held-out prompt is in {train} as well: take it out of one of them"
                );
                Err(Error::prompt(heldout, shared, reason))
            }
        }
    }

    /// Iterates over both sets, training prompts first.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &PromptSet> {
        std::iter::once(&self.train).chain(&self.heldout)
    }
}

/// Setting of the training prompts, as named in messages.
const TRAIN: &str = "prompts.train (or --prompts)";

/// Setting of the held-out prompts, as named in messages.
const HELD_OUT: &str = "prompts.heldout (or --heldout)";

/// Returns the prompts in the form in which they are asked: plain text, or chats if `prompts.chat`
/// is set.
fn asked(config: &PromptsConfig, prompts: PromptSet) -> PromptSet {
    if config.chat {
        prompts.as_chats()
    } else {
        prompts
    }
}

/// Writes a set of a built-in task into the run's folder unless it is there already; returns its path.
fn write_built_in(folder: &Path, task: BuiltInTask, half: Half) -> Result<PathBuf> {
    let text = task::rows(task, half)?;
    let path = folder.join(BUILT_IN_PROMPTS).join(task::file(task, half));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| Error::Io {
            attempted: "create the folder of",
            path: path.clone(),
            source,
        })?;
    }
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&*text) {
        write_whole(&path, &text)?;
    }
    Ok(path)
}

mod answer;
mod fault;
pub(crate) mod files;
mod process;
pub(crate) mod script;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use serde::Serialize;

use vintage_settings::RewardConfig;

use crate::{
    error::Error,
    reward::{FailureReason, Reward, RewardFailure, RewardItem, RewardOutcome},
};
use answer::{Answer, parse_answer};
use fault::CommandFault;
use files::CommandFiles;
use process::Process;
use script::MissingScript;

/// Reward computed by a long-lived subprocess that speaks JSON lines.
///
/// Each completion is one line on the command's standard input,
/// `{"id","prompt","completion","answer","metadata"}`. The command answers each with one line on
/// its standard output, in any order: `{"id","reward","parts"?}`, or `{"id","error"}`. Its standard
/// error is logged. The completions of one call are sent together, so the command may batch them.
/// The command runs in [`RewardConfig::directory`], with `PYTHONUNBUFFERED=1` unless that variable
/// is set, so that Python writes each line at once even without a flush.
///
/// A command that hangs, dies or writes anything else is killed with its children and restarted.
/// The questions it left unanswered are then sent one at a time, so that only the completion at
/// fault fails.
pub struct CommandReward {
    argv: Vec<String>,
    /// Digests of the files that the command line names, taken at the first start.
    files: CommandFiles,
    directory: PathBuf,
    timeout: Duration,
    max_restarts: u32,
    process: Option<Process>,
    /// Restarts since the last answer.
    restarts: u32,
    next_id: u64,
    /// True once a warning about unknown keys in answers was logged.
    warned: bool,
}

#[derive(Serialize)]
struct Question<'a> {
    id: String,
    prompt: &'a str,
    completion: &'a str,
    answer: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
}

impl CommandReward {
    /// Starts the command of `config`.
    ///
    /// # Errors
    /// A program that does not start, or an interpreter's script that does not exist.
    pub fn start(config: &RewardConfig) -> Result<Self, Error> {
        if let Some(missing) = MissingScript::find(config) {
            return Err(Error::RewardScript {
                command: config.command.join(" "),
                missing,
            });
        }
        let mut reward = Self {
            argv: config.command.clone(),
            files: CommandFiles::of(config),
            directory: script::directory(config),
            timeout: Duration::try_from_secs_f64(config.timeout_seconds)
                .unwrap_or(Duration::from_secs(30)),
            max_restarts: config.max_restarts,
            process: None,
            restarts: 0,
            next_id: 0,
            warned: false,
        };
        reward.process = Some(reward.spawn()?);
        Ok(reward)
    }

    fn spawn(&self) -> Result<Process, Error> {
        Process::spawn(&self.argv, &self.directory).map_err(|source| Error::RewardStart {
            command: self.argv.join(" "),
            directory: self.directory.clone(),
            source,
        })
    }

    /// Restarts the command, provided that its files are unchanged since the first start.
    fn start_again(&self) -> Result<Process, Error> {
        match self.files.changed() {
            None => self.spawn(),
            Some(path) => Err(Error::RewardChanged {
                command: self.argv.join(" "),
                path: path.to_owned(),
            }),
        }
    }

    /// Sends the items at `indices` together and stores each answer in `scores`. Returns the fault,
    /// if there was one; the command is killed then.
    async fn exchange(
        &mut self,
        items: &[RewardItem],
        indices: impl IntoIterator<Item = usize>,
        scores: &mut [Option<RewardOutcome>],
    ) -> Result<Result<(), CommandFault>, Error> {
        let mut lines = Vec::new();
        let mut owed = BTreeMap::new();
        for index in indices {
            let item = &items[index];
            let question = Question {
                id: self.next_id.to_string(),
                prompt: &item.prompt,
                completion: &item.completion,
                answer: item.answer.as_deref(),
                metadata: &item.metadata,
            };
            serde_json::to_writer(&mut lines, &question)
                .map_err(|source| Error::RewardQuestion { source })?;
            lines.push(b'\n');
            owed.insert(question.id, index);
            self.next_id += 1;
        }
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.start_again()?,
        };
        let (restarts, warned) = (&mut self.restarts, &mut self.warned);
        let outcome = process
            .converse(&lines, self.timeout, &mut |line| {
                let Answer { id, score, unread } = parse_answer(line)?;
                let Some(index) = owed.remove(&id) else {
                    return Err(CommandFault {
                        reason: FailureReason::Garbage,
                        detail: format!(
                            "the reward command answered id {id:?}, which was not asked or was \
                             answered before; echo each id once"
                        ),
                    });
                };
                if !(unread.is_empty() || score.is_err() || *warned) {
                    *warned = true;
                    tracing::warn!(
                        keys = unread.join(", "),
                        "the reward command's answers have keys that nothing reads; they may have \
                         \"id\", \"reward\", \"parts\" and \"error\""
                    );
                }
                scores[index] = Some(score);
                *restarts = 0;
                Ok(!owed.is_empty())
            })
            .await;
        if outcome.is_ok() {
            self.process = Some(process);
        } else {
            process.kill().await;
        }
        Ok(outcome)
    }

    /// Counts a restart; fails if the command was restarted too often without an answer in between.
    fn restart(&mut self, fault: &CommandFault) -> Result<(), Error> {
        let command = self.argv.join(" ");
        if self.restarts >= self.max_restarts {
            return Err(Error::RewardGaveUp {
                command,
                restarts: self.restarts,
                last: fault.detail.clone(),
            });
        }
        self.restarts += 1;
        tracing::warn!(
            command,
            restart = self.restarts,
            reason = fault.reason.as_str(),
            "reward command restarts: {}",
            fault.detail
        );
        Ok(())
    }
}

#[async_trait]
impl Reward for CommandReward {
    async fn score(&mut self, items: Vec<RewardItem>) -> Result<Vec<RewardOutcome>, Error> {
        let mut scores: Vec<Option<RewardOutcome>> = vec![None; items.len()];
        if let Err(fault) = self.exchange(&items, 0..items.len(), &mut scores).await? {
            self.restart(&fault)?;
            // One prompt on which the command dies costs one of the restarts in a row, however
            // many completions its group has.
            let mut deadly: Option<&str> = None;
            for index in 0..items.len() {
                if scores[index].is_some() {
                    continue;
                }
                if let Err(fault) = self.exchange(&items, [index], &mut scores).await? {
                    let prompt = items[index].prompt.as_str();
                    if deadly.replace(prompt) == Some(prompt) {
                        self.restarts = self.restarts.saturating_sub(1);
                    }
                    self.restart(&fault)?;
                    let CommandFault { reason, detail } = fault;
                    scores[index] = Some(Err(RewardFailure { reason, detail }));
                }
            }
        }
        // An exchange without a fault has answered every question.
        Ok(scores.into_iter().flatten().collect())
    }

    fn needs_answer(&self) -> bool {
        false
    }

    async fn close(&mut self) {
        if let Some(process) = self.process.take() {
            process.finish().await;
        }
    }
}

#[cfg(test)]
mod tests;

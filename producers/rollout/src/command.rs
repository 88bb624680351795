mod answer;
mod fault;
pub(crate) mod files;
mod process;
pub(crate) mod program;
pub(crate) mod script;
pub(crate) mod settings;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;

use vintage_settings::RewardConfig;

use crate::{
    error::Error,
    reward::{FailureReason, Reward, RewardFailure, RewardItem, RewardOutcome},
};
use answer::{Answer, parse_answer};
use settings::{CommandRole, CommandSettings};

pub(crate) use answer::{Line, keys};
pub(crate) use fault::CommandFault;
pub(crate) use process::Process;
pub(crate) use program::Program;

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
    program: Program,
    process: Option<Process>,
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
        let program = Program::new(CommandSettings::from(config))?;
        let process = Some(program.start()?);
        Ok(Self {
            program,
            process,
            next_id: 0,
            warned: false,
        })
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
            serde_json::to_writer(&mut lines, &question).map_err(|source| {
                Error::CommandQuestion {
                    role: CommandRole::Reward,
                    source,
                }
            })?;
            lines.push(b'\n');
            owed.insert(question.id, index);
            self.next_id += 1;
        }
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.program.start_again()?,
        };
        let (program, warned) = (&mut self.program, &mut self.warned);
        let timeout = program.settings.timeout;
        let outcome = process
            .converse(lines, timeout, &mut |line| {
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
                program.answered();
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
}

#[async_trait]
impl Reward for CommandReward {
    async fn score(&mut self, items: Vec<RewardItem>) -> Result<Vec<RewardOutcome>, Error> {
        let mut scores: Vec<Option<RewardOutcome>> = vec![None; items.len()];
        if let Err(fault) = self.exchange(&items, 0..items.len(), &mut scores).await? {
            self.program.restart(&fault)?;
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
                        self.program.forgive();
                    }
                    self.program.restart(&fault)?;
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

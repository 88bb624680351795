mod process;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Error, RewardConfig,
    reward::{FailureReason, Reward, RewardFailure, RewardItem, RewardScore},
};
use process::Process;

/// A reward computed by a long-lived subprocess that speaks JSON lines.
///
/// Each completion is one line on its standard input,
/// `{"id","prompt","completion","answer","metadata"}`; it answers with one line on its standard
/// output, in any order: `{"id","reward","parts"?}`, or `{"id","error"}`. Its standard error is
/// logged. Completions of one call are sent together, so a command may batch them.
///
/// A command that hangs, dies or writes anything else is killed, with its children, and started
/// again. What it still owed is then sent one completion at a time, so that the one at fault is
/// found and fails alone.
pub struct CommandReward {
    argv: Vec<String>,
    timeout: Duration,
    max_restarts: u32,
    process: Option<Process>,
    /// Restarts since the last answer.
    restarts: u32,
    next_id: u64,
}

#[derive(Serialize)]
struct Question<'a> {
    id: String,
    prompt: &'a str,
    completion: &'a str,
    answer: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    reward: Option<f64>,
    parts: Option<BTreeMap<String, Option<f64>>>,
    error: Option<String>,
}

/// Why the command cannot be used any further.
#[derive(Debug)]
struct Fault {
    reason: FailureReason,
    detail: String,
}

type Scored = Result<RewardScore, RewardFailure>;

impl CommandReward {
    /// Starts the command of `config`.
    pub fn start(config: &RewardConfig) -> Result<Self, Error> {
        let mut reward = Self {
            argv: config.command.clone(),
            timeout: Duration::try_from_secs_f64(config.timeout_seconds)
                .unwrap_or(Duration::from_secs(30)),
            max_restarts: config.max_restarts,
            process: None,
            restarts: 0,
            next_id: 0,
        };
        reward.process = Some(reward.spawn()?);
        Ok(reward)
    }

    fn spawn(&self) -> Result<Process, Error> {
        Process::spawn(&self.argv).map_err(|source| Error::RewardStart {
            command: self.argv.join(" "),
            source,
        })
    }

    /// Sends `indices` of `items` together and files every answer that comes; says what went
    /// wrong, if anything did.
    async fn exchange(
        &mut self,
        items: &[RewardItem],
        indices: impl IntoIterator<Item = usize>,
        scores: &mut [Option<Scored>],
    ) -> Result<Result<(), Fault>, Error> {
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
            None => self.spawn()?,
        };
        let restarts = &mut self.restarts;
        let outcome = process
            .converse(&lines, self.timeout, &mut |line| {
                let (id, score) = parse_answer(line)?;
                let Some(index) = owed.remove(&id) else {
                    return Err(Fault {
                        reason: FailureReason::Garbage,
                        detail: format!(
                            "the reward command answered id {id:?}, which was not asked or was \
                             answered before; echo each id once"
                        ),
                    });
                };
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

    /// Counts a restart that is due; an error where it is one too many.
    fn restart(&mut self, fault: &Fault) -> Result<(), Error> {
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
    async fn score(&mut self, items: Vec<RewardItem>) -> Result<Vec<Scored>, Error> {
        let mut scores: Vec<Option<Scored>> = vec![None; items.len()];
        if let Err(fault) = self.exchange(&items, 0..items.len(), &mut scores).await? {
            self.restart(&fault)?;
            for index in 0..items.len() {
                if scores[index].is_some() {
                    continue;
                }
                if let Err(fault) = self.exchange(&items, [index], &mut scores).await? {
                    self.restart(&fault)?;
                    let Fault { reason, detail } = fault;
                    scores[index] = Some(Err(RewardFailure { reason, detail }));
                }
            }
        }
        // Every exchange without a fault has answered all it was asked.
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

/// Reads one line of the command.
fn parse_answer(line: &[u8]) -> Result<(String, Scored), Fault> {
    let text = String::from_utf8_lossy(line);
    // Python writes NaN and Infinity, which are not JSON.
    let answer: Answer = serde_json::from_str(&text)
        .or_else(|error| {
            let nulled = text
                .replace("-Infinity", "null")
                .replace("Infinity", "null");
            serde_json::from_str(&nulled.replace("NaN", "null")).map_err(|_| error)
        })
        .map_err(|error| Fault {
            reason: FailureReason::Garbage,
            detail: format!(
                "the reward command wrote {:?}, which is no answer ({error}); write only \
                 {{\"id\", \"reward\"}} lines to standard output, and logs to standard error",
                shorten(&text)
            ),
        })?;
    Ok((answer.id.clone(), judge(answer, &text)))
}

fn judge(answer: Answer, line: &str) -> Scored {
    if let Some(error) = answer.error {
        let detail = format!("the reward command refused: {error}");
        return Err(RewardFailure {
            reason: FailureReason::Refused,
            detail,
        });
    }
    let finite = |value: Option<f64>| value.map(|v| v as f32).filter(|v| v.is_finite());
    let score = || {
        let reward = finite(answer.reward)?;
        let Some(parts) = answer.parts else {
            return Some(RewardScore {
                reward,
                parts: None,
            });
        };
        let parts = parts
            .into_iter()
            .map(|(name, value)| Some((name, finite(value)?)));
        Some(RewardScore {
            reward,
            parts: Some(parts.collect::<Option<_>>()?),
        })
    };
    score().ok_or_else(|| RewardFailure {
        reason: FailureReason::NonFinite,
        detail: format!(
            "the reward command answered {:?}, without a finite reward; give every answer a \
             finite \"reward\" and finite \"parts\"",
            shorten(line)
        ),
    })
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut short: String = text.trim_end().chars().take(LONGEST).collect();
    if text.trim_end().chars().count() > LONGEST {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;

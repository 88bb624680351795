//! Task that speaks with an environment command: questions of many episodes at once, each answered
//! whenever the command likes.

use std::{
    collections::{BTreeSet, VecDeque},
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Asked, Note,
    answer::{KEYS, TurnAnswer, parse_turn},
    question::Abandoned,
};
use crate::{
    command::{CommandFault, Process, Program},
    error::Error,
    reward::{FailureReason, RewardFailure},
};

/// Number of notes taken together, whose lines are written at once.
const NOTES: usize = 1024;

/// Speaker with an environment command.
///
/// A command that hangs, dies or writes anything else is killed with its children and restarted. The
/// questions it left open are then asked one at a time, so that only the episode at fault fails.
pub(super) struct Clerk {
    program: Program,
    process: Option<Process>,
    notes: mpsc::UnboundedReceiver<Note>,
    /// Open questions, oldest first.
    open: VecDeque<Asked>,
    /// Time since which the oldest open question is the oldest.
    waiting: Instant,
    /// Questions of this process whose episodes were abandoned before the answer.
    forgotten: BTreeSet<String>,
    /// Episodes with an answer too many, which fail at their next question.
    poisoned: BTreeSet<String>,
    failure: Arc<Mutex<Option<Error>>>,
    /// True once a warning about unknown keys in answers was logged.
    warned: bool,
}

impl Clerk {
    pub(super) fn new(
        program: Program,
        process: Process,
        notes: mpsc::UnboundedReceiver<Note>,
        failure: Arc<Mutex<Option<Error>>>,
    ) -> Self {
        Self {
            program,
            process: Some(process),
            notes,
            open: VecDeque::new(),
            waiting: Instant::now(),
            forgotten: BTreeSet::new(),
            poisoned: BTreeSet::new(),
            failure,
            warned: false,
        }
    }

    /// Serves until nobody can ask any more, or the command is given up.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            let failure = self.failure.lock();
            *failure.unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        // Those who wait for an answer must not wait for the command's end, too.
        self.open.clear();
        self.notes.close();
        if let Some(process) = self.process.take() {
            process.finish().await;
        }
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let mut notes = Vec::new();
        loop {
            let patience = self.program.settings.timeout;
            let process = &mut self.process;
            let line = async {
                match process {
                    Some(process) => process.line().await,
                    None => pending().await,
                }
            };
            let outcome = tokio::select! {
                taken = self.notes.recv_many(&mut notes, NOTES) => {
                    if taken == 0 {
                        return Ok(());
                    }
                    self.take(notes.drain(..))?;
                    Ok(())
                }
                line = line => line.and_then(|line| self.hear(&line)),
                () = sleep_until(self.waiting + patience), if !self.open.is_empty() => {
                    Err(self.silence())
                }
            };
            if let Err(fault) = outcome {
                self.recover(&fault).await?;
            }
        }
    }

    /// Writes questions and abandonments.
    fn take(&mut self, notes: impl Iterator<Item = Note>) -> Result<(), Error> {
        let mut lines = Vec::new();
        for note in notes {
            match note {
                Note::Ask(asked) => {
                    if self.poisoned.remove(&asked.episode) {
                        let detail = "the environment command answered a question of the episode \
                                      twice; answer each id once"
                            .to_owned();
                        let reason = FailureReason::Garbage;
                        // The asker may have been dropped.
                        let _ = asked.answer.send(Err(RewardFailure { reason, detail }));
                        continue;
                    }
                    if self.open.is_empty() {
                        self.waiting = Instant::now();
                    }
                    lines.extend_from_slice(&asked.line);
                    self.open.push_back(asked);
                }
                Note::Abandon { episode, id } => {
                    self.poisoned.remove(&episode);
                    if self.close(&id).is_some() {
                        self.forgotten.insert(id.clone());
                    }
                    // A command that is to be started again knows of no episode.
                    if self.process.is_some() {
                        let abandon = Abandoned {
                            id: &id,
                            episode: &episode,
                            is_over: true,
                        };
                        lines.extend(abandon.line()?);
                    }
                }
            }
        }
        if !lines.is_empty() {
            self.running()?.write(lines);
        }
        Ok(())
    }

    /// Returns the command's process, which is started again if it has ended.
    fn running(&mut self) -> Result<&mut Process, Error> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.program.start_again()?,
        };
        Ok(self.process.insert(process))
    }

    /// Takes a question off the open ones.
    fn close(&mut self, id: &str) -> Option<Asked> {
        let at = self.open.iter().position(|asked| asked.id == id)?;
        if at == 0 {
            self.waiting = Instant::now();
        }
        self.open.remove(at)
    }

    /// Takes up an answer.
    fn hear(&mut self, line: &[u8]) -> Result<(), CommandFault> {
        let TurnAnswer { id, reply, unread } = parse_turn(line)?;
        if self.forgotten.remove(&id) {
            return Ok(());
        }
        let Some(asked) = self.close(&id) else {
            let detail = format!(
                "the environment command answered id {id:?}, which was not asked or was answered \
                 before; answer each id once"
            );
            let reason = FailureReason::Garbage;
            self.poison(&id, &detail);
            return Err(CommandFault { reason, detail });
        };
        if !(unread.is_empty() || reply.is_err() || self.warned) {
            self.warned = true;
            tracing::warn!(
                keys = unread.join(", "),
                "the environment command's answers have keys that nothing reads; they may have {}",
                KEYS.map(|key| format!("{key:?}")).join(", ")
            );
        }
        self.program.answered();
        // The episode may have been dropped meanwhile.
        let _ = asked.answer.send(reply);
        Ok(())
    }

    /// Fails the episode of a question that was answered twice: which answer was meant is unknown.
    fn poison(&mut self, id: &str, detail: &str) {
        let Some((episode, _)) = id.split_once('.') else {
            return;
        };
        let open = self.open.iter().position(|asked| asked.episode == episode);
        match open.and_then(|at| self.open.remove(at)) {
            Some(asked) => {
                let failure = RewardFailure {
                    reason: FailureReason::Garbage,
                    detail: detail.to_owned(),
                };
                // The episode may have been dropped meanwhile.
                let _ = asked.answer.send(Err(failure));
            }
            None => {
                self.poisoned.insert(episode.to_owned());
            }
        }
    }

    fn silence(&self) -> CommandFault {
        let patience = self.program.settings.timeout;
        match &self.process {
            Some(process) => process.silence(patience),
            None => CommandFault {
                reason: FailureReason::Timeout,
                detail: "the environment command is not running".to_owned(),
            },
        }
    }

    /// Kills the command, and asks the open questions one at a time.
    async fn recover(&mut self, fault: &CommandFault) -> Result<(), Error> {
        self.kill().await;
        self.program.restart(fault)?;
        // One prompt on which the command dies costs one of the restarts in a row, however many
        // episodes its group has.
        let mut deadly: Option<String> = None;
        for suspect in std::mem::take(&mut self.open) {
            if suspect.answer.is_closed() {
                continue;
            }
            let prompt = suspect.prompt.clone();
            self.waiting = Instant::now();
            self.running()?.write(suspect.line.clone());
            self.open.push_back(suspect);
            let Err(fault) = self.alone().await else {
                continue;
            };
            self.kill().await;
            if deadly.as_ref() == Some(&prompt) {
                self.program.forgive();
            }
            deadly = Some(prompt);
            self.program.restart(&fault)?;
            if let Some(suspect) = self.open.pop_front() {
                let CommandFault { reason, detail } = fault;
                // The episode may have been dropped meanwhile.
                let _ = suspect.answer.send(Err(RewardFailure { reason, detail }));
            }
        }
        Ok(())
    }

    /// Waits for the answer to the only open question.
    async fn alone(&mut self) -> Result<(), CommandFault> {
        let deadline = self.waiting + self.program.settings.timeout;
        while !self.open.is_empty() {
            let Some(process) = &mut self.process else {
                return Err(self.silence());
            };
            let line = tokio::select! {
                line = process.line() => line?,
                () = sleep_until(deadline) => return Err(self.silence()),
            };
            self.hear(&line)?;
        }
        Ok(())
    }

    async fn kill(&mut self) {
        self.forgotten.clear();
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }
}

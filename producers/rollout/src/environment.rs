//! Environment of conversations: a command that answers every completion with the next messages, or
//! ends the episode with a reward.
//!
//! Each completion is one line on the command's standard input, an object with `id`, `episode`,
//! `turn`, `turns_left`, `tokens_left`, `finish_reason`, `prompt_id`, `completion`, `answer`,
//! `metadata` and `messages`, the conversation so far. The command answers each with one line, in
//! any order: `{"id","messages","reward"?,"parts"?}`, `{"id","reward","parts"?,"done":true}` or
//! `{"id","error"}`. `{"id","episode","abandon":true}` says that an episode is over, and wants no
//! answer.

mod answer;
mod clerk;
pub(crate) mod question;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use vintage_settings::EnvironmentConfig;

use crate::{
    command::{Program, settings::CommandSettings},
    error::Error,
    reward::RewardFailure,
};
use clerk::Clerk;

pub(crate) use answer::Reply;

/// Environment command that was started, with its settings.
pub struct Environment {
    pub(crate) settings: EnvironmentConfig,
    pub(crate) desk: Desk,
    pub(crate) closing: Closing,
}

/// End of an environment command.
pub struct Closing(JoinHandle<()>);

/// Access to a running environment command. The command ends when every copy is dropped.
#[derive(Clone)]
pub(crate) struct Desk {
    notes: mpsc::UnboundedSender<Note>,
    /// Reason for which the command was given up, until somebody reports it.
    failure: Arc<Mutex<Option<Error>>>,
    episodes: Arc<AtomicU64>,
}

/// Note to the task that speaks with the command.
enum Note {
    Ask(Asked),
    /// The episode is over; its open question, if there is one, needs no answer.
    Abandon {
        episode: String,
        id: String,
    },
}

/// Question to the command.
struct Asked {
    id: String,
    episode: String,
    /// Prompt of the episode: one on which the command dies costs one restart, whatever the number
    /// of its episodes.
    prompt: String,
    /// Line, with its end.
    line: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

/// Answer to a question, or the reason for which there is none.
pub(crate) type Answer = Result<Reply, RewardFailure>;

impl Environment {
    /// Starts the command of `config`.
    ///
    /// # Errors
    /// A program that does not start, or an interpreter's script that does not exist.
    pub fn start(config: &EnvironmentConfig) -> Result<Self, Error> {
        let program = Program::new(CommandSettings::from(config))?;
        let process = program.start()?;
        let (notes, to_clerk) = mpsc::unbounded_channel();
        let failure = Arc::new(Mutex::new(None));
        let clerk = Clerk::new(program, process, to_clerk, Arc::clone(&failure));
        Ok(Self {
            settings: config.clone(),
            desk: Desk {
                notes,
                failure,
                episodes: Arc::default(),
            },
            closing: Closing(tokio::spawn(clerk.run())),
        })
    }
}

impl Closing {
    /// Waits until the command has ended; every engine that uses it must be dropped before.
    pub async fn wait(self) {
        // A panic there was reported to whoever waited for an answer.
        let _ = self.0.await;
    }
}

impl Desk {
    /// Returns the number of a new episode.
    pub(crate) fn next_episode(&self) -> u64 {
        self.episodes.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks a question. The receiver fails if the command was given up; see [`Desk::failure`].
    pub(crate) fn ask(
        &self,
        id: String,
        episode: String,
        prompt: String,
        line: Vec<u8>,
    ) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        // If the clerk has ended, dropping the note tells the receiver.
        let _ = self.notes.send(Note::Ask(Asked {
            id,
            episode,
            prompt,
            line,
            answer,
        }));
        answered
    }

    /// Tells the command that an episode is over, which it last heard of by the question `id`.
    pub(crate) fn abandon(&self, episode: String, id: String) {
        // Nobody has to be told if the command has ended.
        let _ = self.notes.send(Note::Abandon { episode, id });
    }

    /// Returns the reason for which the command was given up.
    pub(crate) fn failure(&self) -> Error {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().unwrap_or(Error::EnvironmentEnded)
    }
}

#[cfg(test)]
mod tests;

//! A command over its restarts.

use std::path::PathBuf;

use super::{
    fault::CommandFault,
    files::CommandFiles,
    process::Process,
    script::{self, MissingScript},
    settings::CommandSettings,
};
use crate::error::Error;

/// Command that is started again when it fails, as often as the settings allow.
pub(crate) struct Program {
    pub(crate) settings: CommandSettings,
    /// Digests of the files that the command line names, taken at the first start.
    files: CommandFiles,
    directory: PathBuf,
    /// Restarts since the last answer.
    restarts: u32,
    /// Fault of the last restart; one that comes again is not told in full again.
    told: Option<String>,
}

impl Program {
    /// Prepares a command; nothing is started yet.
    ///
    /// # Errors
    /// An interpreter's script that does not exist.
    pub(crate) fn new(settings: CommandSettings) -> Result<Self, Error> {
        if let Some(missing) = MissingScript::find(&settings) {
            return Err(Error::CommandScript {
                role: settings.role,
                command: settings.line(),
                missing,
            });
        }
        Ok(Self {
            files: CommandFiles::of(&settings),
            directory: script::directory(&settings),
            settings,
            restarts: 0,
            told: None,
        })
    }

    /// Starts the command for the first time.
    pub(crate) fn start(&self) -> Result<Process, Error> {
        let settings = &self.settings;
        let started = Process::spawn(settings.role, &settings.argv, &self.directory);
        started.map_err(|source| Error::CommandStart {
            role: settings.role,
            command: settings.line(),
            directory: self.directory.clone(),
            source,
        })
    }

    /// Starts the command again, provided that its files are unchanged since the first start.
    pub(crate) fn start_again(&self) -> Result<Process, Error> {
        match self.files.changed() {
            None => self.start(),
            Some(path) => Err(Error::CommandChanged {
                role: self.settings.role,
                command: self.settings.line(),
                path: path.to_owned(),
            }),
        }
    }

    /// Notes that the command answered.
    pub(crate) fn answered(&mut self) {
        self.restarts = 0;
    }

    /// Takes one restart back.
    pub(crate) fn forgive(&mut self) {
        self.restarts = self.restarts.saturating_sub(1);
    }

    /// Counts a restart; fails if the command was restarted too often without an answer in between.
    pub(crate) fn restart(&mut self, fault: &CommandFault) -> Result<(), Error> {
        let CommandSettings {
            role, max_restarts, ..
        } = self.settings;
        let command = self.settings.line();
        if self.restarts >= max_restarts {
            return Err(Error::CommandGaveUp {
                role,
                command,
                restarts: self.restarts,
                last: fault.detail.clone(),
            });
        }
        self.restarts += 1;
        let told = self.told.replace(fault.detail.clone());
        let why = match told.filter(|told| *told == fault.detail) {
            Some(_) => "the same fault again",
            None => &fault.detail,
        };
        tracing::warn!(
            command,
            restart = self.restarts,
            reason = fault.reason.as_str(),
            "{role} restarts: {why}"
        );
        Ok(())
    }
}

//! Choice of the reward and the environment that settings ask for.

use vintage_settings::RolloutConfig;

use crate::{
    command::CommandReward,
    environment::Environment,
    error::Error,
    reward::{EpisodeReward, Reward, VerifierReward},
};

/// Creates the reward that the settings describe; a command is started at once.
pub fn open_reward(config: &RolloutConfig) -> Result<Box<dyn Reward>, Error> {
    if config.environment.is_set() {
        Ok(Box::new(EpisodeReward))
    } else if config.reward.command.is_empty() {
        Ok(Box::new(VerifierReward::new(config.reward.kind)))
    } else {
        Ok(Box::new(CommandReward::start(&config.reward)?))
    }
}

/// Starts the environment that the settings describe; `None` if completions are single turns.
pub fn open_environment(config: &RolloutConfig) -> Result<Option<Environment>, Error> {
    let environment = &config.environment;
    let started = environment.is_set();
    started.then(|| Environment::start(environment)).transpose()
}

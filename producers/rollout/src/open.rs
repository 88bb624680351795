//! Choice of the reward that settings ask for.

use vintage_settings::RewardConfig;

use crate::{
    command::CommandReward,
    error::Error,
    reward::{Reward, VerifierReward},
};

/// Creates the reward that the settings describe; a command is started at once.
pub fn open_reward(config: &RewardConfig) -> Result<Box<dyn Reward>, Error> {
    if config.command.is_empty() {
        Ok(Box::new(VerifierReward::new(config.kind)))
    } else {
        Ok(Box::new(CommandReward::start(config)?))
    }
}

//! Conversations: rollouts of several turns with an environment.
//!
//! [`ConversingEngine`] wraps an engine, so that a group's completions are whole episodes.
//! `drive.rs` takes the episodes of one call through their turns, `episode.rs` holds the tokens of
//! one, `dialogue.rs` its messages.

mod dialogue;
mod drive;
mod episode;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream::unfold};
use vintage_control::PolicyVersion;
use vintage_settings::EnvironmentConfig;

use crate::{
    engine::{Engine, EngineError, Groups, Overlap, SampleRequest, TurnSampler},
    environment::{Closing, Desk, Environment},
};
use drive::Driver;

pub(crate) use dialogue::check_chat;

/// Engine whose completions are conversations with an environment.
///
/// A later turn is sampled from the tokens of all turns before, exactly as they were sampled; only
/// what the chat template writes for new messages is tokenized. See [`crate::Following`].
pub struct ConversingEngine {
    engine: Box<dyn Engine>,
    settings: EnvironmentConfig,
    desk: Desk,
}

impl ConversingEngine {
    /// Wraps an engine. The command ends when the result is dropped, which the second value waits
    /// for.
    pub fn new(engine: Box<dyn Engine>, environment: Environment) -> (Self, Closing) {
        let Environment {
            settings,
            desk,
            closing,
        } = environment;
        let conversing = Self {
            engine,
            settings,
            desk,
        };
        (conversing, closing)
    }
}

#[async_trait]
impl Engine for ConversingEngine {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn version(&self) -> PolicyVersion {
        self.engine.version()
    }

    fn context_len(&self) -> usize {
        let context = self.engine.context_len();
        self.settings
            .episode_tokens
            .map_or(context, |most| most.min(context))
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        self.engine.encode(text, rendered)
    }

    fn render(&self, chat: &str) -> Result<String, EngineError> {
        self.engine.render(chat)
    }

    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError> {
        self.engine.load(version).await
    }

    fn turns(&self) -> Arc<dyn TurnSampler> {
        self.engine.turns()
    }

    fn sample(&mut self, requests: Vec<SampleRequest>) -> Groups {
        let driver = Driver::new(
            self.engine.turns(),
            self.desk.clone(),
            self.settings.clone(),
            self.context_len(),
            self.engine.overlap() != Overlap::Nothing,
            requests,
        );
        unfold(driver, |mut driver| async move {
            let item = driver.next().await?;
            Some((item, driver))
        })
        .boxed()
    }

    fn overlap(&self) -> Overlap {
        self.engine.overlap()
    }
}

use async_trait::async_trait;
use vintage_rollout::{Error, FailureReason, Reward, RewardFailure, RewardItem, RewardScore};

/// Reward of completions that mostly came with one: the others are scored by the run's own, if there
/// is one.
pub struct GivenReward {
    own: Option<Box<dyn Reward>>,
}

impl GivenReward {
    /// Creates the reward; `own` scores what came without a score.
    pub fn new(own: Option<Box<dyn Reward>>) -> Self {
        Self { own }
    }
}

#[async_trait]
impl Reward for GivenReward {
    async fn score(
        &mut self,
        items: Vec<RewardItem>,
    ) -> Result<Vec<Result<RewardScore, RewardFailure>>, Error> {
        let mut scores: Vec<_> = items.iter().map(|item| item.score.clone()).collect();
        let open: Vec<_> = items
            .into_iter()
            .filter(|item| item.score.is_none())
            .collect();
        let scored = match &mut self.own {
            Some(own) if !open.is_empty() => own.score(open).await?,
            _ => Vec::new(),
        };
        let mut scored = scored.into_iter();
        let filled = scores.drain(..).map(|given| match given {
            Some(score) => Ok(score),
            None => scored.next().unwrap_or_else(|| Err(missing())),
        });
        Ok(filled.collect())
    }

    fn needs_answer(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.needs_answer())
    }

    fn check_answer(&self, answer: &str) -> Result<(), String> {
        self.own
            .as_ref()
            .map_or(Ok(()), |own| own.check_answer(answer))
    }

    async fn close(&mut self) {
        if let Some(own) = &mut self.own {
            own.close().await;
        }
    }
}

fn missing() -> RewardFailure {
    RewardFailure {
        reason: FailureReason::Missing,
        detail: "the completion came without a reward".to_owned(),
    }
}

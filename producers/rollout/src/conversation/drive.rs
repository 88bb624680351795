//! The episodes of one call of the engine, taken through their turns.

use std::{collections::VecDeque, sync::Arc};

use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll, select_all},
};
use tokio::sync::oneshot::error::RecvError;
use vintage_settings::{Cut, EnvironmentConfig, History, Unfinished};

use super::{dialogue::Dialogue, episode::Conversation};
use crate::{
    engine::{EngineError, Following, Sample, SampleRequest, Turn, TurnSampler},
    environment::{Answer, Desk, Reply, question::Question},
    reward::{FailureReason, RewardFailure},
    select::turn_seed,
};

/// Finish reason of an episode that its limit of turns ended.
const TURNS: &str = "turns";
/// Finish reason of an episode that its limit of tokens ended.
const LENGTH: &str = "length";
/// Finish reason of an episode that the environment ended.
const STOP: &str = "stop";

type Item = (usize, Result<Vec<Sample>, EngineError>);
type Sampled = Result<Vec<Sample>, EngineError>;
type Asked = BoxFuture<'static, (usize, Result<Answer, RecvError>)>;

/// Episodes of a call.
pub(super) struct Driver {
    engine: Arc<dyn TurnSampler>,
    desk: Desk,
    settings: EnvironmentConfig,
    /// Longest episode with its prompt, in tokens.
    limit: usize,
    /// True if the engine samples rows while others are sampled. If not, all rows go through their
    /// turns in step: one call of the engine for all of them takes about as long as one for a few,
    /// and what is sampled together depends on answers alone, not on their times.
    overlaps: bool,
    groups: Vec<Group>,
    rows: Vec<Row>,
    /// Rows whose next completion may be sampled.
    ready: Vec<(usize, SampleRequest)>,
    calls: SelectAll<BoxStream<'static, (usize, Sampled)>>,
    /// Number of rows that the engine is sampling.
    sampling: usize,
    answers: FuturesUnordered<Asked>,
    done: VecDeque<Item>,
}

/// Group whose rows are episodes.
struct Group {
    request: SampleRequest,
    /// Finished rows.
    samples: Vec<Option<Sample>>,
    /// True once the group was passed on, whole or failed.
    over: bool,
}

/// One episode.
struct Row {
    group: usize,
    index: u16,
    episode: String,
    /// `None` once it is finished or given up.
    conversation: Option<Conversation>,
    /// Number of further completions that the environment was told of.
    turns_left: u32,
}

impl Row {
    /// Id of the question after the last completion.
    fn question(&self, turn: u32) -> String {
        format!("{}.{turn}", self.episode)
    }
}

impl Driver {
    pub(super) fn new(
        engine: Arc<dyn TurnSampler>,
        desk: Desk,
        settings: EnvironmentConfig,
        limit: usize,
        overlaps: bool,
        requests: Vec<SampleRequest>,
    ) -> Self {
        let mut driver = Self {
            engine,
            desk,
            settings,
            limit,
            overlaps,
            groups: Vec::with_capacity(requests.len()),
            rows: Vec::new(),
            ready: Vec::new(),
            calls: select_all([]),
            sampling: 0,
            answers: FuturesUnordered::new(),
            done: VecDeque::new(),
        };
        for (group, request) in requests.into_iter().enumerate() {
            driver.groups.push(Group {
                samples: vec![None; usize::from(request.samples)],
                request,
                over: false,
            });
            if let Err(error) = driver.begin(group) {
                driver.fail(group, error);
            }
        }
        driver
    }

    fn begin(&mut self, group: usize) -> Result<(), EngineError> {
        let request = self.groups[group].request.clone();
        let prompt = &request.prompt;
        let tokens = self.engine.encode(&prompt.text, prompt.is_rendered())?;
        let chat = prompt.chat.as_deref().unwrap_or_default();
        let dialogue = Dialogue::of_chat(chat).map_err(EngineError::BadRequest)?;
        for index in 0..request.samples {
            let row = self.rows.len();
            self.rows.push(Row {
                group,
                index,
                episode: self.desk.next_episode().to_string(),
                conversation: Some(Conversation::new(dialogue.clone(), tokens.clone())),
                turns_left: 0,
            });
            self.make_ready(row);
        }
        Ok(())
    }

    /// Returns the next group that is finished or given up; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.done.pop_front() {
                return Some(item);
            }
            self.send();
            if self.sampling == 0 && self.answers.is_empty() {
                return None;
            }
            tokio::select! {
                sampled = self.calls.next(), if self.sampling > 0 => {
                    let mut sampled = sampled;
                    if sampled.is_none() {
                        self.fail_all();
                    }
                    while let Some((row, outcome)) = sampled {
                        self.sampled(row, outcome);
                        sampled = self.calls.next().now_or_never().flatten();
                    }
                }
                answered = self.answers.next(), if !self.answers.is_empty() => {
                    let mut answered = answered;
                    while let Some((row, answer)) = answered {
                        self.answered(row, answer);
                        answered = self.answers.next().now_or_never().flatten();
                    }
                }
            }
        }
    }

    /// Has the engine sample the rows that are ready.
    fn send(&mut self) {
        let busy = self.sampling > 0 || !self.answers.is_empty();
        if self.ready.is_empty() || (busy && !self.overlaps) {
            return;
        }
        let (rows, requests): (Vec<_>, Vec<_>) = self.ready.drain(..).unzip();
        self.sampling += rows.len();
        let sampled = self.engine.sample(requests);
        let of_row = sampled.filter_map(move |(index, outcome)| {
            std::future::ready(rows.get(index).map(|row| (*row, outcome)))
        });
        self.calls.push(of_row.boxed());
    }

    /// Puts a row among those whose next completion may be sampled.
    fn make_ready(&mut self, row: usize) {
        let Row {
            group,
            index,
            conversation: Some(conversation),
            ..
        } = &self.rows[row]
        else {
            return;
        };
        let request = &self.groups[*group].request;
        let mut sampling = request.sampling;
        let room = self.limit.saturating_sub(conversation.len());
        sampling.max_tokens = sampling.max_tokens.min(room);
        let request = SampleRequest {
            turn: Some(Turn {
                tokens: conversation.ids(),
                seed: turn_seed(request.row_seed(*index), conversation.turns()),
                at_least: conversation.newest(),
            }),
            samples: 1,
            sampling,
            ..request.clone()
        };
        self.ready.push((row, request));
    }

    /// Takes up a completion, and asks the environment about it.
    fn sampled(&mut self, row: usize, outcome: Sampled) {
        self.sampling -= 1;
        let group = self.rows[row].group;
        if self.groups[group].over {
            return;
        }
        let taken = outcome.and_then(|mut samples| match (samples.pop(), samples.pop()) {
            (Some(sample), None) => self.ask(row, sample),
            _ => Err(EngineError::BadRequest(
                "the engine did not return one completion for one turn".to_owned(),
            )),
        });
        if let Err(error) = taken {
            self.fail(group, error);
        }
    }

    fn ask(&mut self, row: usize, sample: Sample) -> Result<(), EngineError> {
        let Self {
            engine,
            desk,
            settings,
            limit,
            groups,
            rows,
            ..
        } = self;
        let row_number = row;
        let row = &mut rows[row];
        let Some(conversation) = &mut row.conversation else {
            return Ok(());
        };
        let stopped = sample.finish_reason == STOP;
        let finish_reason = sample.finish_reason.clone();
        let end = sample.completion_tokens.len() - usize::from(stopped);
        let spelled = engine.spell(&sample.completion_tokens[..end])?;
        let wrong = |detail| EngineError::GroupFailed {
            reason: "mixed_version",
            detail,
        };
        conversation.sampled(sample, spelled).map_err(wrong)?;
        let turn = conversation.turns();
        let tokens_left = limit.saturating_sub(conversation.len());
        let over = (!stopped && settings.cut == Cut::End) || tokens_left == 0;
        row.turns_left = if over {
            0
        } else {
            settings.max_turns.saturating_sub(turn)
        };
        let id = format!("{}.{turn}", row.episode);
        let prompt = &groups[row.group].request.prompt;
        let question = Question {
            id: &id,
            episode: &row.episode,
            turn,
            turns_left: row.turns_left,
            tokens_left,
            finish_reason: &finish_reason,
            prompt_id: &prompt.id,
            completion: &conversation.completion,
            answer: prompt.answer.as_deref(),
            metadata: &prompt.metadata,
        };
        let line = question.line(&conversation.dialogue.list());
        let line = line.map_err(|error| EngineError::Environment(Box::new(error)))?;
        let answered = desk.ask(id, row.episode.clone(), prompt.id.clone(), line);
        self.answers
            .push(async move { (row_number, answered.await) }.boxed());
        Ok(())
    }

    /// Takes up an answer of the environment.
    fn answered(&mut self, row: usize, answer: Result<Answer, RecvError>) {
        let group = self.rows[row].group;
        if self.groups[group].over {
            return;
        }
        let outcome = match answer {
            Err(_ended) => Err(EngineError::Environment(Box::new(self.desk.failure()))),
            Ok(Err(failure)) => {
                // The environment gave the episode up itself.
                self.rows[row].conversation = None;
                Err(EngineError::EpisodeFailed(failure))
            }
            Ok(Ok(Reply::Done(score))) => {
                if let Some(conversation) = &mut self.rows[row].conversation {
                    conversation.reward(score);
                }
                let cut = self.rows[row].conversation.as_ref();
                let cut = cut.is_some_and(|conversation| conversation.stop.is_none());
                self.finish(row, if cut { LENGTH } else { STOP })
            }
            Ok(Ok(Reply::Next { messages, score })) => {
                if let (Some(conversation), Some(score)) = (&mut self.rows[row].conversation, score)
                {
                    conversation.reward(score);
                }
                self.proceed(row, messages)
            }
        };
        if let Err(error) = outcome {
            self.fail(group, error);
        }
    }

    /// Continues an episode with the environment's messages.
    fn proceed(&mut self, row: usize, messages: Vec<String>) -> Result<(), EngineError> {
        let engine = Arc::clone(&self.engine);
        let turns_left = self.rows[row].turns_left;
        let Some(conversation) = &mut self.rows[row].conversation else {
            return Ok(());
        };
        let failed = |reason, detail: String| {
            Err(EngineError::EpisodeFailed(RewardFailure { reason, detail }))
        };
        if turns_left == 0 {
            if self.settings.unfinished == Unfinished::Keep {
                let cut = conversation.stop.is_none();
                return self.leave(row, if cut { LENGTH } else { TURNS });
            }
            return failed(
                FailureReason::Unfinished,
                format!(
                    "the environment command gave messages after completion {} of an episode, \
                     where \"turns_left\" was 0; end the episode there with \"done\": true, raise \
                     rollout.environment.max_turns, or set rollout.environment.unfinished = \
                     \"keep\"",
                    conversation.turns()
                ),
            );
        }
        let place = conversation.dialogue.len();
        let completion = std::mem::take(&mut conversation.completion);
        conversation.dialogue.push_completion(&completion);
        conversation.dialogue.extend(messages);
        let chat = conversation.dialogue.chat();
        let Following { tokens, rewriting } =
            match engine.following(&chat, place, conversation.stop) {
                Ok(following) => following,
                Err(EngineError::BadRequest(why)) => {
                    return failed(
                        FailureReason::Unrendered,
                        format!("the environment's messages cannot be rendered: {why}"),
                    );
                }
                Err(error) => return Err(error),
            };
        if let (Some(what), History::Refuse) = (rewriting, self.settings.history) {
            return failed(
                FailureReason::RewrittenHistory,
                format!(
                    "{what}: the tokens sampled so far would not be what the template gives; send \
                     other roles, change the template, or set rollout.environment.history = \
                     \"keep\" to go on from the tokens as they were sampled"
                ),
            );
        }
        if conversation.len() + tokens.len() >= self.limit {
            if self.settings.unfinished == Unfinished::Keep {
                return self.leave(row, LENGTH);
            }
            return failed(
                FailureReason::TooLong,
                format!(
                    "the environment command gave messages of {} tokens where {} were left; send \
                     shorter ones (\"tokens_left\" says how much room there is), raise \
                     rollout.environment.episode_tokens, or set rollout.environment.unfinished = \
                     \"keep\"",
                    tokens.len(),
                    self.limit.saturating_sub(conversation.len())
                ),
            );
        }
        conversation.follow(&tokens);
        self.make_ready(row);
        Ok(())
    }

    /// Finishes an episode that the environment has not ended.
    fn leave(&mut self, row: usize, reason: &str) -> Result<(), EngineError> {
        self.abandon(row);
        self.finish(row, reason)
    }

    fn abandon(&self, row: usize) {
        let row = &self.rows[row];
        let turn = row.conversation.as_ref().map_or(0, Conversation::turns);
        if turn > 0 {
            self.desk.abandon(row.episode.clone(), row.question(turn));
        }
    }

    fn finish(&mut self, row: usize, reason: &str) -> Result<(), EngineError> {
        let Row {
            group,
            index,
            conversation,
            ..
        } = &mut self.rows[row];
        let Some(conversation) = conversation.take() else {
            return Ok(());
        };
        let end = conversation.tokens().len() - usize::from(conversation.stop.is_some());
        let text = self.engine.spell(&conversation.tokens()[..end])?;
        let sample = conversation.finish(text, reason);
        let sample = sample.map_err(EngineError::EpisodeFailed)?;
        let number = *group;
        let group = &mut self.groups[number];
        group.samples[usize::from(*index)] = Some(sample);
        if group.samples.iter().all(Option::is_some) {
            group.over = true;
            let samples = std::mem::take(&mut group.samples);
            let samples = samples.into_iter().flatten().collect();
            self.done.push_back((number, Ok(samples)));
        }
        Ok(())
    }

    /// Gives up a group: its episodes are over.
    fn fail(&mut self, group: usize, error: EngineError) {
        if self.groups[group].over {
            return;
        }
        self.groups[group].over = true;
        self.groups[group].samples.clear();
        for row in 0..self.rows.len() {
            if self.rows[row].group == group {
                self.abandon(row);
                self.rows[row].conversation = None;
            }
        }
        self.ready.retain(|(row, _)| self.rows[*row].group != group);
        self.done.push_back((group, Err(error)));
    }

    /// Gives up all groups that an engine has left without completions.
    fn fail_all(&mut self) {
        self.sampling = 0;
        for group in 0..self.groups.len() {
            let why = "the engine left a turn without a completion".to_owned();
            self.fail(group, EngineError::BadRequest(why));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for row in 0..self.rows.len() {
            self.abandon(row);
        }
    }
}

//! A desk with its engine: slots out, groups back, and what is refused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use vintage_control::{Name, PolicyVersion};
use vintage_given::{
    Completion, Desk, GivenEngine, GivenReward, GivenSettings, Slot, Stage, Versions,
};
use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};
use vintage_rollout::{
    Engine as _, EngineError, Form, Groups, Overlap, Prompt, Reward as _, RewardItem, RewardScore,
    Sample, SampleRequest, Sampling, VerifierReward, group_seed, row_seed,
};
use vintage_settings::AnswerKind;
use vintage_store::{Store, Weights};
use vintage_trajectory::GroupId;

const NOW: Duration = Duration::ZERO;

struct Place {
    desk: Desk,
    engine: GivenEngine,
    weights: Weights,
    _folder: tempfile::TempDir,
}

/// A desk of a policy over digits with versions 0 and 1.
async fn place(exact: bool, scores: bool) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::characters(&"0123456789=".chars().collect()).unwrap();
    let config = DecoderConfig::tiny(tokenizer.vocab_size());
    let params = ParamSet::init(&config, 0).unwrap();
    let files = ModelFolder::new(config, tokenizer, params).unwrap();
    let files = files.files().unwrap().into_iter();
    let files: Vec<_> = files
        .map(|(name, bytes)| (name, Bytes::from(bytes)))
        .collect();
    let policy: Name = "main".parse().unwrap();
    let store = Store::open(&folder.path().to_string_lossy()).unwrap();
    let weights = Weights::new(store, policy.clone());
    for version in [0, 1] {
        let published = weights.publish(PolicyVersion(version), files.clone()).await;
        assert_eq!(published.unwrap().0.version, PolicyVersion(version));
    }
    let desk = Desk::default();
    assert_eq!(desk.joined(NOW), Stage::Joining);
    let settings = GivenSettings {
        name: "a-script".to_owned(),
        exact,
        scores,
    };
    let opened = GivenEngine::open(weights.clone(), &policy, desk.clone(), settings).await;
    let engine = opened.unwrap();
    assert_eq!(desk.joined(NOW), Stage::Waiting);
    Place {
        desk,
        engine,
        weights,
        _folder: folder,
    }
}

fn request(slot: u8) -> SampleRequest {
    let prompt = Prompt {
        id: format!("p{slot}"),
        text: "1=".to_owned(),
        form: Form::Plain,
        chat: None,
        extras: None,
        answer: Some("1".to_owned()),
        metadata: BTreeMap::new(),
        file: 0,
        line: 1,
    };
    SampleRequest {
        prompt: Arc::new(prompt),
        turn: None,
        group: GroupId([slot; 16]),
        samples: 2,
        seed: group_seed(3, u64::from(slot)),
        sampling: Sampling {
            max_tokens: 3,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
        },
    }
}

fn fitting() -> Completion {
    Completion {
        tokens: vec![1, 2],
        logprobs: vec![-0.5, 0.0],
        reward: Some(1.0),
        ..Completion::default()
    }
}

fn taken(desk: &Desk) -> Slot {
    match desk.take(NOW) {
        Stage::Slot(slot) => *slot,
        other => panic!("{other:?}"),
    }
}

async fn landed(groups: &mut Groups) -> (usize, Result<Vec<Sample>, EngineError>) {
    groups.next().await.unwrap()
}

#[tokio::test]
async fn slots_go_out_in_order_and_groups_come_back_in_any() {
    let mut place = place(false, false).await;
    assert_eq!(place.engine.overlap(), Overlap::Versions);
    let mut groups = place.engine.sample(vec![request(0), request(1)]);
    let (first, second) = (taken(&place.desk), taken(&place.desk));
    assert_eq!(place.desk.take(NOW), Stage::Waiting);
    assert_eq!(
        (first.group, second.group),
        (GroupId([0; 16]), GroupId([1; 16]))
    );
    assert_eq!(
        first.seeds,
        [0, 1].map(|row| row_seed(group_seed(3, 0), row))
    );
    assert_eq!(
        first.prompt_tokens,
        place.engine.encode("1=", false).unwrap()
    );
    assert_eq!(
        place.desk.answer(second.group, vec![fitting(); 2]),
        Ok(true)
    );
    let (index, answer) = landed(&mut groups).await;
    let rows = answer.unwrap();
    assert_eq!((index, rows.len()), (1, 2));
    assert_eq!(rows[0].completion_tokens, [1, 2]);
    assert_eq!(
        (rows[0].finish_reason.as_str(), rows[0].spans.len()),
        ("length", 1)
    );
    assert_eq!(rows[0].score.as_ref().unwrap().reward, 1.0);
    let again = place.desk.answer(second.group, vec![fitting(); 2]);
    assert!(again.unwrap_err().to_string().contains("written once"));
    assert_eq!(
        place.desk.give_up(first.group, "too long".to_owned()),
        Ok(true)
    );
    let (_, answer) = landed(&mut groups).await;
    assert!(matches!(answer, Err(EngineError::GroupFailed { .. })));
}

#[tokio::test]
async fn a_slot_that_waited_is_for_the_newest_version_unless_it_is_exact() {
    for exact in [false, true] {
        let mut place = place(exact, false).await;
        let _groups = place.engine.sample(vec![request(0)]);
        place.engine.load(PolicyVersion(1)).await.unwrap();
        let slot = taken(&place.desk);
        assert_eq!(slot.version, PolicyVersion(u64::from(!exact)));
        let by = |version| {
            vec![
                Completion {
                    versions: Some(Versions::One(version)),
                    ..fitting()
                };
                2
            ]
        };
        let newer = place
            .desk
            .answer(slot.group, by(2))
            .unwrap_err()
            .to_string();
        assert!(newer.starts_with("versions[0][0] is 2"), "{newer}");
        assert_eq!(place.desk.answer(slot.group, by(1)).is_ok(), !exact);
        assert_eq!(place.desk.answer(slot.group, by(0)).is_ok(), exact);
        place.weights.remove(PolicyVersion(1)).await.unwrap();
        place.engine.load(PolicyVersion(0)).await.unwrap();
        let gone = place.engine.load(PolicyVersion(1)).await;
        assert!(matches!(gone, Err(EngineError::VersionGone { .. })));
        assert_eq!(place.engine.version(), PolicyVersion(0));
    }
}

#[tokio::test]
async fn what_is_not_answered_is_given_back_at_the_end() {
    let mut place = place(false, false).await;
    let mut groups = place
        .engine
        .sample(vec![request(0), request(1), request(2)]);
    let answered = taken(&place.desk);
    assert_eq!(
        place.desk.answer(answered.group, vec![fitting(); 2]),
        Ok(true)
    );
    let open = taken(&place.desk);
    place.desk.end();
    assert_eq!(place.desk.take(Duration::MAX), Stage::Ended);
    let mut back = Vec::new();
    while let Some((index, answer)) = groups.next().await {
        match answer {
            Ok(rows) => assert_eq!((index, rows.len()), (0, 2)),
            Err(EngineError::GivenBack) => back.push(index),
            Err(error) => panic!("{error}"),
        }
    }
    back.sort_unstable();
    assert_eq!(back, [1, 2]);
    assert_eq!(place.desk.answer(open.group, vec![fitting(); 2]), Ok(false));
    let (_, answer) = landed(&mut place.engine.sample(vec![request(3)])).await;
    assert!(matches!(answer, Err(EngineError::GivenBack)));
}

#[tokio::test]
async fn a_slot_that_nobody_waits_for_is_not_handed_out() {
    let mut place = place(false, false).await;
    let dropped = place.engine.sample(vec![request(0)]);
    let held = taken(&place.desk);
    drop(dropped);
    assert_eq!(place.desk.answer(held.group, vec![fitting(); 2]), Ok(false));
    drop(place.engine.sample(vec![request(1)]));
    assert_eq!(place.desk.take(NOW), Stage::Waiting);
}

#[tokio::test]
async fn every_value_that_does_not_fit_is_named_and_the_slot_stays_open() {
    let mut place = place(false, false).await;
    let mut groups = place.engine.sample(vec![request(0)]);
    place.engine.load(PolicyVersion(1)).await.unwrap();
    let slot = taken(&place.desk);
    let with = |change: &dyn Fn(&mut Completion)| {
        let mut row = fitting();
        change(&mut row);
        vec![fitting(), row]
    };
    let each = |versions: &[i64]| Some(Versions::Each(versions.to_vec()));
    let parts = |part: f32| Some(BTreeMap::from([("form".to_owned(), part)]));
    let cases: Vec<(Vec<Completion>, &str)> = vec![
        (vec![fitting()], "completions has 1 rows"),
        (with(&|row| row.tokens.clear()), "completions[1] is empty"),
        (with(&|row| row.tokens[1] = 99), "completions[1][1] is 99"),
        (with(&|row| row.tokens[0] = -1), "completions[1][0] is -1"),
        (
            with(&|row| row.logprobs.truncate(1)),
            "logprobs[1] has 1 values",
        ),
        (
            with(&|row| row.logprobs[0] = f32::NAN),
            "logprobs[1][0] is NaN",
        ),
        (
            with(&|row| row.logprobs[0] = 0.01),
            "logprobs[1][0] is 0.01",
        ),
        (
            with(&|row| row.logprobs[1] = f32::NEG_INFINITY),
            "logprobs[1][1] is -inf",
        ),
        (
            with(&|row| row.versions = each(&[1])),
            "versions[1] has 1 values",
        ),
        (
            with(&|row| row.versions = each(&[1, 0])),
            "versions[1][1] is 0 after 1",
        ),
        (
            with(&|row| row.versions = each(&[0, -1])),
            "versions[1][1] is -1",
        ),
        (
            with(&|row| row.versions = each(&[0, 2])),
            "versions[1][1] is 2, and the newest",
        ),
        (with(&|row| row.reward = None), "rewards are missing"),
        (
            with(&|row| row.reward = Some(f32::NAN)),
            "rewards[1] is NaN",
        ),
        (
            with(&|row| row.reward = Some(1e7)),
            "rewards[1] is 10000000",
        ),
        (
            with(&|row| row.parts = parts(f32::INFINITY)),
            "reward_parts[1][\"form\"] is inf",
        ),
        (
            with(&|row| row.finish_reason = Some("abort".to_owned())),
            "finish_reasons[1] is \"abort\"",
        ),
        (
            with(&|row| row.mask = Some(vec![true])),
            "loss_masks[1] has 1 values",
        ),
        (
            with(&|row| row.mask = Some(vec![false; 2])),
            "loss_masks[1] has no token",
        ),
        (with(&|row| row.seconds = -1.0), "seconds is -1"),
        (
            with(&|row| {
                row.tokens = vec![1; 4];
                row.logprobs = vec![-1.0; 4];
            }),
            "completions[1] has 4 tokens, and rollout.max_tokens is 3",
        ),
        (
            with(&|row| {
                row.tokens = vec![1; 1000];
                row.logprobs = vec![-1.0; 1000];
                row.mask = Some(vec![true; 1000]);
            }),
            "completions[1] has 1000 tokens, 1002 with its prompt",
        ),
    ];
    for (completions, says) in cases {
        let refused = place.desk.answer(slot.group, completions).unwrap_err();
        assert!(refused.to_string().starts_with(says), "{refused} / {says}");
    }
    let stop = i64::from(Tokenizer::CHARACTERS_EOS);
    let conversation = Completion {
        tokens: vec![4, 5, 6, stop],
        logprobs: vec![-1.0, f32::NAN, -2.0, 0.0],
        mask: Some(vec![true, false, true, true]),
        versions: each(&[0, 0, 1, 1]),
        ..fitting()
    };
    let answered = place.desk.answer(slot.group, vec![fitting(), conversation]);
    assert_eq!(answered, Ok(true));
    let rows = landed(&mut groups).await.1.unwrap();
    let spans: Vec<_> = rows[1]
        .spans
        .iter()
        .map(|span| (span.start, span.version.0))
        .collect();
    assert_eq!(spans, [(0, 0), (2, 1)]);
    assert_eq!(rows[1].logprobs, [-1.0, 0.0, -2.0, 0.0]);
    assert_eq!(rows[1].episode.as_ref().unwrap().turns, 2);
    assert_eq!(rows[1].finish_reason, "stop");
    assert_eq!(rows[1].completion_text.chars().count(), 3);
    assert!(rows[0].episode.is_none());
}

#[tokio::test]
async fn the_runs_reward_scores_what_comes_without_one() {
    let mut place = place(false, true).await;
    let mut groups = place.engine.sample(vec![request(0)]);
    let slot = taken(&place.desk);
    let bare = Completion {
        reward: None,
        ..fitting()
    };
    assert_eq!(
        place.desk.answer(slot.group, vec![bare.clone(), bare]),
        Ok(true)
    );
    let rows = landed(&mut groups).await.1.unwrap();
    assert!(rows.iter().all(|row| row.score.is_none()));
}

#[tokio::test]
async fn rewards_that_came_are_kept_and_the_others_are_the_runs() {
    let item = |completion: &str, reward: Option<f32>| RewardItem {
        score: reward.map(|reward| RewardScore {
            reward,
            parts: None,
        }),
        ..RewardItem::new(&request(0).prompt, completion.to_owned())
    };
    let items = || vec![item("1", None), item("1", Some(0.25)), item("2", None)];
    let own = VerifierReward::new(AnswerKind::Exact);
    let mut reward = GivenReward::new(Some(Box::new(own)));
    assert!(reward.needs_answer() && reward.check_answer("1").is_ok());
    let scores = reward.score(items()).await.unwrap();
    let scores: Vec<_> = scores
        .iter()
        .map(|score| score.as_ref().unwrap().reward)
        .collect();
    assert_eq!(scores, [1.0, 0.25, 0.0]);
    let mut bare = GivenReward::new(None);
    assert!(!bare.needs_answer());
    let scores = bare.score(items()).await.unwrap();
    let given: Vec<_> = scores.iter().map(Result::is_ok).collect();
    assert_eq!(given, [false, true, false]);
}

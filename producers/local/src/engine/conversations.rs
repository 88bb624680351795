//! Tests of conversations with a real decoder, a real chat template and a real environment command.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use bytes::Bytes;
use futures::StreamExt as _;
use vintage_control::PolicyVersion;
use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};
use vintage_rollout::{
    ConversingEngine, Engine, EngineError, Environment, FailureReason, Form, Prompt, Sample,
    SampleRequest, Sampling, group_seed,
};
use vintage_settings::{Cut, EnvironmentConfig, History, Unfinished};
use vintage_store::{Store, Weights};
use vintage_trajectory::GroupId;

use super::LocalEngine;

/// Template that renders every message as it is.
const PLAIN: &str = "{% for m in messages %}{% if m.role == 'assistant' %}A{{ m.content }}<eos>\n\
    {% else %}{{ 'T' if m.role == 'tool' else 'U' }}{{ m.content }}\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}A{% endif %}";
/// Template that leaves out the beginning of earlier completions, up to a 5, once a user speaks.
const FORGETFUL: &str = "{% for m in messages %}{% if m.role == 'assistant' %}A\
    {{ m.content if messages[-1].role == 'tool' else m.content.split('5')[-1] }}<eos>\n{% else %}\
    {{ 'T' if m.role == 'tool' else 'U' }}{{ m.content }}\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}A{% endif %}";

/// Environment of three turns: it says how long the completion was, as the role that the prompt
/// asks for, until no turn is left or three were had.
const COUNTS: &str = r#"
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    if q.get("abandon"):
        continue
    assert len(q["messages"]) == 2 * q["turn"] - 1, q
    if q["turn"] == 3 or q["turns_left"] == 0:
        answer = {"done": True, "reward": 1, "parts": {"said": len(q["completion"])}}
    else:
        role = q["metadata"].get("role", "tool")
        answer = {"messages": [{"role": role, "content": str(len(q["completion"]))}], "reward": 0.25}
    print(json.dumps({"id": q["id"], **answer}), flush=True)
"#;
/// Environment that never ends an episode.
const ENDLESS: &str = r#"
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    if not q.get("abandon"):
        answer = {"messages": [{"role": "tool", "content": "7"}], "reward": 0.5}
        print(json.dumps({"id": q["id"], **answer}), flush=True)
"#;
/// Environment whose messages are long.
const LONG: &str = r#"
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    if not q.get("abandon"):
        answer = {"messages": [{"role": "tool", "content": "7" * 400}]}
        print(json.dumps({"id": q["id"], **answer}), flush=True)
"#;
/// Environment whose messages the tokenizer does not know.
const FOREIGN: &str = r#"
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    if not q.get("abandon"):
        answer = {"messages": [{"role": "tool", "content": "é"}]}
        print(json.dumps({"id": q["id"], **answer}), flush=True)
"#;

async fn policy(folder: &Path, template: &str) -> LocalEngine {
    let characters: BTreeSet<_> = "0123456789UTA\n".chars().collect();
    let tokenizer = Tokenizer::characters(&characters).unwrap();
    let config = DecoderConfig::tiny(tokenizer.vocab_size());
    let name: vintage_control::Name = "main".parse().unwrap();
    let weights = Weights::new(Store::open(folder.to_str().unwrap()).unwrap(), name.clone());
    let params = ParamSet::init(&config, 0).unwrap();
    let model = ModelFolder::new(config, tokenizer, params).unwrap();
    let files = model.files().unwrap().into_iter();
    let files = files.map(|(name, bytes)| (name, Bytes::from(bytes)));
    let template = ("chat_template.jinja", Bytes::from(template.to_owned()));
    let files = files.chain([template]).collect();
    let _ = weights.publish(PolicyVersion(0), files).await.unwrap();
    let opened = LocalEngine::open(weights, name, PolicyVersion(0)).await;
    opened.unwrap()
}

fn config(script: &str) -> EnvironmentConfig {
    EnvironmentConfig {
        command: ["python3", "-u", "-c", script].map(str::to_owned).to_vec(),
        ..Default::default()
    }
}

const SAMPLING: Sampling = Sampling {
    max_tokens: 24,
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
};

fn request(engine: &dyn Engine, role: &str, slot: u64, samples: u16) -> SampleRequest {
    let chat = r#"[{"role":"user","content":"12"}]"#;
    let prompt = Prompt {
        id: "p".to_owned(),
        text: engine.render(chat).unwrap(),
        form: Form::Rendered,
        chat: Some(chat.to_owned()),
        extras: None,
        answer: None,
        metadata: [("role".to_owned(), role.to_owned())].into(),
        file: 0,
        line: 1,
    };
    SampleRequest {
        prompt: Arc::new(prompt),
        turn: None,
        group: GroupId([slot as u8; 16]),
        samples,
        seed: group_seed(3, slot),
        sampling: SAMPLING,
    }
}

/// Samples one group of a model with this template; returns it with the bare engine.
async fn converse(
    template: &str,
    role: &str,
    settings: &EnvironmentConfig,
) -> (Result<Vec<Sample>, EngineError>, LocalEngine) {
    let folder = tempfile::tempdir().unwrap();
    let engine = policy(folder.path(), template).await;
    let environment = Environment::start(settings).unwrap();
    let (mut conversing, closing) = ConversingEngine::new(Box::new(engine), environment);
    let requests = vec![request(&conversing, role, 0, 8)];
    let mut groups = conversing.sample(requests);
    let (index, group) = groups.next().await.unwrap();
    assert_eq!(index, 0);
    assert!(groups.next().await.is_none());
    drop((groups, conversing));
    closing.wait().await;
    (group, policy(folder.path(), template).await)
}

/// Stretches of equal mask: whether they were sampled, and their range.
fn stretches(sampled: &[bool]) -> Vec<(bool, std::ops::Range<usize>)> {
    let mut found: Vec<(bool, std::ops::Range<usize>)> = Vec::new();
    for (at, &sampled) in sampled.iter().enumerate() {
        match found.last_mut() {
            Some((last, range)) if *last == sampled => range.end = at + 1,
            _ => found.push((sampled, at..at + 1)),
        }
    }
    found
}

/// Checks that a row is its prompt, then completions and what the environment said in turn, and that
/// every completion was sampled from exactly the tokens before it.
async fn check(engine: &LocalEngine, row: &Sample, cut_goes_on: bool) {
    let episode = row.episode.as_ref().unwrap();
    let tokens = &row.completion_tokens;
    assert_eq!(row.prompt_tokens, engine.encode("U12\nA", true).unwrap());
    assert_eq!(
        (tokens.len(), tokens.len()),
        (episode.sampled.len(), row.logprobs.len())
    );
    let eos = Tokenizer::CHARACTERS_EOS as i32;
    let stretches = stretches(&episode.sampled);
    assert_eq!(stretches.len() as u32, 2 * episode.turns - 1);
    let mut ids = row.prompt_tokens.clone();
    for (number, (sampled, range)) in stretches.iter().enumerate() {
        assert_eq!(*sampled, number % 2 == 0);
        let before = ids.len();
        ids.extend(&tokens[range.clone()]);
        let logprobs = &row.logprobs[range.clone()];
        if *sampled {
            let all = ids.iter().map(|&id| id as u32).collect();
            let scored = engine.score(all, 1.0).await.unwrap();
            for (given, right) in logprobs.iter().zip(&scored[before - 1..]) {
                assert!((given - right).abs() < 1e-4, "{given} {right}");
            }
            continue;
        }
        assert!(logprobs.iter().all(|logprob| *logprob == 0.0));
        let completion = &tokens[stretches[number - 1].1.clone()];
        let stopped = completion.last() == Some(&eos);
        assert!(stopped || cut_goes_on);
        let text = &completion[..completion.len() - usize::from(stopped)];
        let texts = engine.turns();
        let length = texts.spell(text).unwrap().chars().count();
        // The stop token is the completion's own; only a cut completion gets one from the template.
        let end = if stopped { "" } else { "<eos>" };
        let said = engine
            .encode(&format!("{end}\nT{length}\nA"), true)
            .unwrap();
        assert_eq!(&tokens[range.clone()], said);
    }
    assert_eq!(row.spans.len(), 1);
}

#[tokio::test]
async fn a_row_is_the_prompt_and_the_turns_token_by_token() {
    let (group, engine) = converse(PLAIN, "tool", &config(COUNTS)).await;
    let group = group.unwrap();
    let mut turns = BTreeSet::new();
    for row in &group {
        check(&engine, row, false).await;
        let episode = row.episode.as_ref().unwrap();
        turns.insert(episode.turns);
        let score = row.score.as_ref().unwrap();
        let parts = score.parts.as_ref().unwrap();
        let reward = 0.25 * (episode.turns - 1) as f32 + 1.0;
        assert_eq!(score.reward, reward);
        assert_eq!(parts[&format!("turn_{}", episode.turns)], 1.0);
        assert_eq!(parts.len() as u32, episode.turns + 1);
        let cut = row.completion_tokens.last() != Some(&(Tokenizer::CHARACTERS_EOS as i32));
        assert_eq!(row.finish_reason, if cut { "length" } else { "stop" });
    }
    assert!(turns.len() > 1, "{turns:?}");
    // A second attempt at the slot, in another process of the environment.
    let (again, _) = converse(PLAIN, "tool", &config(COUNTS)).await;
    for (row, again) in group.iter().zip(again.unwrap()) {
        assert_eq!(row.completion_tokens, again.completion_tokens);
        assert_eq!(row.logprobs, again.logprobs);
    }
}

#[tokio::test]
async fn a_cut_completion_may_be_continued_behind_the_templates_end() {
    let settings = EnvironmentConfig {
        cut: Cut::Continue,
        ..config(COUNTS)
    };
    let (group, engine) = converse(PLAIN, "tool", &settings).await;
    for row in &group.unwrap() {
        check(&engine, row, true).await;
        assert_eq!(row.episode.as_ref().unwrap().turns, 3);
    }
}

fn reason(group: Result<Vec<Sample>, EngineError>) -> FailureReason {
    match group {
        Err(EngineError::EpisodeFailed(failure)) => failure.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_template_that_forgets_is_refused_unless_the_settings_keep_the_tokens() {
    // What the template writes for tools leaves everything as it was.
    let (group, _) = converse(FORGETFUL, "tool", &config(COUNTS)).await;
    assert_eq!(group.unwrap().len(), 8);

    let (group, _) = converse(FORGETFUL, "user", &config(COUNTS)).await;
    let error = group.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("renders the completion otherwise"),
        "{message}"
    );
    assert!(message.contains("history"), "{message}");
    assert_eq!(reason(Err(error)), FailureReason::RewrittenHistory);

    let settings = EnvironmentConfig {
        history: History::Keep,
        ..config(COUNTS)
    };
    let (group, _) = converse(FORGETFUL, "user", &settings).await;
    assert!(
        group
            .unwrap()
            .iter()
            .any(|row| row.episode.as_ref().unwrap().turns > 1)
    );
}

#[tokio::test]
async fn limits_end_episodes_as_the_settings_say() {
    let endless = EnvironmentConfig {
        max_turns: 2,
        cut: Cut::Continue,
        ..config(ENDLESS)
    };
    let (group, _) = converse(PLAIN, "tool", &endless).await;
    assert_eq!(reason(group), FailureReason::Unfinished);
    let (group, _) = converse(PLAIN, "tool", &config(LONG)).await;
    assert!(matches!(
        reason(group),
        FailureReason::TooLong | FailureReason::Unfinished
    ));
    let (group, _) = converse(PLAIN, "tool", &config(FOREIGN)).await;
    assert!(matches!(
        reason(group),
        FailureReason::Unrendered | FailureReason::Unfinished
    ));

    let keep = EnvironmentConfig {
        unfinished: Unfinished::Keep,
        ..endless
    };
    let (group, _) = converse(PLAIN, "tool", &keep).await;
    for row in group.unwrap() {
        let (episode, score) = (row.episode.unwrap(), row.score.unwrap());
        assert_eq!((episode.turns, score.reward), (2, 1.0));
        assert!(
            *episode.sampled.last().unwrap(),
            "it ends with a completion"
        );
        assert!(["turns", "length"].contains(&row.finish_reason.as_str()));
    }
    // 4 tokens of the prompt, and 6 of an answer.
    let short = EnvironmentConfig {
        episode_tokens: Some(40),
        max_turns: 50,
        ..keep
    };
    let (group, _) = converse(PLAIN, "tool", &short).await;
    for row in group.unwrap() {
        assert!(row.prompt_tokens.len() + row.completion_tokens.len() <= 40);
        assert!(row.episode.unwrap().turns > 1);
        assert_eq!(row.finish_reason, "length");
    }
}

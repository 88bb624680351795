use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use vintage_settings::EnvironmentConfig;

use super::{Answer, Desk, Environment, Reply, answer::parse_turn, question::Question};
use crate::{
    Error,
    reward::{FailureReason, RewardScore},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Environment that does what a completion asks for: it answers with the completion's length as
/// reward unless told otherwise.
const SCRIPT: &str = r#"
import json, os, sys, time
gone = []
for line in sys.stdin:
    q = json.loads(line)
    if q.get("abandon"):
        gone.append(q["episode"])
        continue
    said, id = q["completion"], q["id"]
    def write(**answer):
        print(json.dumps({"id": id, **answer}), flush=True)
    if said == "hang":
        time.sleep(600)
    elif said == "die":
        print("the world has ended", file=sys.stderr, flush=True)
        os._exit(3)
    elif said == "babble":
        print("you see a door", flush=True)
    elif said == "stranger":
        print(json.dumps({"id": "x.1", "done": True, "reward": 1}), flush=True)
    elif said == "twice":
        write(messages=[{"role": "tool", "content": "4"}])
        write(done=True, reward=1)
    elif said == "nan":
        write(done=True, reward=float("nan"))
    elif said == "nan on the way":
        write(messages=[{"role": "tool", "content": "NaN"}], reward=float("nan"))
    elif said == "nothing":
        write()
    elif said == "enormous":
        write(messages=[{"role": "tool", "content": "x" * (2 << 20)}])
    elif said == "refuse":
        write(error="no such episode")
    elif said == "go on":
        write(messages=[{"role": "tool", "content": "4", "name": "sum"}], reward=0.5)
    elif said == "who is gone":
        write(done=True, reward=len(gone), parts={"first": float(gone[0]) if gone else -1})
    elif said == "late":
        pass
    elif said == "answer the late":
        print(json.dumps({"id": q["metadata"]["late"], "done": True, "reward": 9}), flush=True)
        write(done=True, reward=1)
    else:
        write(done=True, reward=len(said))
"#;

fn start(seconds: f64) -> Environment {
    let command = ["python3", "-u", "-c", SCRIPT].map(str::to_owned).to_vec();
    let config = EnvironmentConfig {
        command,
        timeout_seconds: seconds,
        ..Default::default()
    };
    Environment::start(&config).unwrap()
}

/// Question about the first completion of a new episode; returns episode and question too.
struct Open {
    episode: String,
    id: String,
    answered: tokio::sync::oneshot::Receiver<Answer>,
}

impl Open {
    fn ask(desk: &Desk, completion: &str, metadata: &[(&str, &str)]) -> Self {
        let episode = desk.next_episode().to_string();
        Self::ask_again(desk, &episode, 1, completion, metadata)
    }

    fn ask_again(
        desk: &Desk,
        episode: &str,
        turn: u32,
        completion: &str,
        metadata: &[(&str, &str)],
    ) -> Self {
        let id = format!("{episode}.{turn}");
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>();
        let question = Question {
            id: &id,
            episode,
            turn,
            turns_left: 3,
            tokens_left: 100,
            finish_reason: "stop",
            prompt_id: "p",
            completion,
            answer: None,
            metadata: &metadata,
        };
        let line = question
            .line(r#"[{"role":"user","content":"go"}]"#)
            .unwrap();
        let answered = desk.ask(id.clone(), episode.to_owned(), episode.to_owned(), line);
        Self {
            episode: episode.to_owned(),
            id,
            answered,
        }
    }

    async fn reply(self) -> Result<Reply, FailureReason> {
        let answer = timeout(PATIENCE, self.answered).await.unwrap().unwrap();
        answer.map_err(|failure| failure.reason)
    }
}

fn done(reward: f32) -> Reply {
    Reply::Done(RewardScore {
        reward,
        parts: None,
    })
}

#[tokio::test]
async fn an_environment_continues_or_ends_episodes() {
    let Environment { desk, closing, .. } = start(20.0);
    let open: Vec<_> = ["go on", "abc"]
        .map(|said| Open::ask(&desk, said, &[]))
        .into_iter()
        .collect();
    let mut replies = Vec::new();
    for open in open {
        replies.push(open.reply().await);
    }
    let score = RewardScore {
        reward: 0.5,
        parts: None,
    };
    let messages = vec![r#"{"role":"tool","content":"4","name":"sum"}"#.to_owned()];
    let next = Reply::Next {
        messages,
        score: Some(score),
    };
    assert_eq!(replies, [Ok(next), Ok(done(3.0))]);
    drop(desk);
    timeout(PATIENCE, closing.wait()).await.unwrap();
}

#[tokio::test]
async fn one_bad_episode_costs_only_itself() {
    for (bad, reason) in [
        ("die", FailureReason::Died),
        ("babble", FailureReason::Garbage),
        ("stranger", FailureReason::Garbage),
        ("enormous", FailureReason::Garbage),
        ("nan", FailureReason::NonFinite),
        ("nan on the way", FailureReason::NonFinite),
        ("nothing", FailureReason::Missing),
        ("refuse", FailureReason::Refused),
    ] {
        let Environment { desk, .. } = start(20.0);
        let open = ["a", "bb", bad, "ccc"].map(|said| Open::ask(&desk, said, &[]));
        let mut replies = Vec::new();
        for open in open {
            replies.push(open.reply().await);
        }
        assert_eq!(
            replies,
            [Ok(done(1.0)), Ok(done(2.0)), Err(reason), Ok(done(3.0))],
            "{bad}"
        );
        let later = Open::ask(&desk, "dddd", &[]).reply().await;
        assert_eq!(later, Ok(done(4.0)), "{bad}");
    }
}

#[tokio::test]
async fn a_hanging_episode_is_timed_out_and_the_rest_answered() {
    let Environment { desk, .. } = start(3.0);
    let open = ["a", "hang", "bb"].map(|said| Open::ask(&desk, said, &[]));
    let mut replies = Vec::new();
    for open in open {
        replies.push(open.reply().await);
    }
    assert_eq!(
        replies,
        [Ok(done(1.0)), Err(FailureReason::Timeout), Ok(done(2.0))]
    );
}

/// Nobody knows which of two answers was meant, so the episode fails at its next question.
#[tokio::test]
async fn an_episode_that_is_answered_twice_fails() {
    let Environment { desk, .. } = start(20.0);
    let open = Open::ask(&desk, "twice", &[]);
    let episode = open.episode.clone();
    assert!(matches!(open.reply().await, Ok(Reply::Next { .. })));
    // Whether the second answer is read before this question or after it, the episode fails.
    let again = Open::ask_again(&desk, &episode, 2, "a", &[]);
    assert_eq!(again.reply().await, Err(FailureReason::Garbage));
    assert_eq!(Open::ask(&desk, "bb", &[]).reply().await, Ok(done(2.0)));
}

#[tokio::test]
async fn an_abandoned_episode_is_told_of_and_its_late_answer_is_nothing() {
    let Environment { desk, .. } = start(20.0);
    let late = Open::ask(&desk, "late", &[]);
    desk.abandon(late.episode.clone(), late.id.clone());
    let open = Open::ask(&desk, "answer the late", &[("late", &late.id)]);
    assert_eq!(open.reply().await, Ok(done(1.0)));
    let told = Open::ask(&desk, "who is gone", &[]).reply().await;
    let parts = BTreeMap::from([("first".to_owned(), late.episode.parse().unwrap())]);
    let expected = RewardScore {
        reward: 1.0,
        parts: Some(parts),
    };
    assert_eq!(told, Ok(Reply::Done(expected)));
}

/// Questions that come while others are open do not wait for them.
#[tokio::test]
async fn a_slow_answer_holds_up_no_other() {
    let Environment { desk, .. } = start(20.0);
    let slow = Open::ask(&desk, "late", &[]);
    for _ in 0..3 {
        assert_eq!(Open::ask(&desk, "abc", &[]).reply().await, Ok(done(3.0)));
    }
    let open = Open::ask(&desk, "answer the late", &[("late", &slow.id)]);
    assert_eq!(slow.reply().await, Ok(done(9.0)));
    assert_eq!(open.reply().await, Ok(done(1.0)));
}

#[tokio::test]
async fn a_command_that_only_fails_is_given_up_with_its_last_words() {
    let script = "import sys; print('no module named world', file=sys.stderr); sys.exit(7)";
    let command = ["python3", "-c", script].map(str::to_owned).to_vec();
    let config = EnvironmentConfig {
        command,
        ..Default::default()
    };
    let Environment { desk, closing, .. } = Environment::start(&config).unwrap();
    let mut given_up = false;
    for _ in 0..9 {
        let open = Open::ask(&desk, "a", &[]);
        given_up |= timeout(PATIENCE, open.answered).await.unwrap().is_err();
        if given_up {
            break;
        }
    }
    assert!(given_up);
    let message = desk.failure().to_string();
    assert!(message.contains("after 3 restarts in a row"), "{message}");
    assert!(message.contains("no module named world"), "{message}");
    assert!(
        message.contains("rollout.environment.max_restarts"),
        "{message}"
    );
    // Only one hears the reason; the rest hear that there is one.
    assert!(matches!(desk.failure(), Error::EnvironmentEnded));
    timeout(PATIENCE, closing.wait()).await.unwrap();
}

#[test]
fn answers_are_read_or_refused() {
    for (line, words) in [
        (r#"{"id": "1.1", "done": 1}"#, "\"done\" is 1"),
        (r#"{"id": "1.1", "messages": []}"#, "are none"),
        (r#"{"id": "1.1", "messages": "hi"}"#, "no list"),
        (
            r#"{"id": "1.1", "messages": [{"content": "a"}]}"#,
            "\"role\"",
        ),
        (
            r#"{"id": "1.1", "messages": [{"role": "tool"}]}"#,
            "\"content\"",
        ),
        (
            r#"{"id": "1.1", "messages": [{"role": "assistant", "content": "a"}]}"#,
            "of the assistant",
        ),
        (
            r#"{"id": "1.1", "done": true, "messages": [{"role": "tool", "content": "a"}]}"#,
            "and is \"done\"",
        ),
        (r#"{"id": "1.1", "done": true, "reward": "high"}"#, "a text"),
        (r#"{"id": 1, "done": true, "reward": 1}"#, "as a text"),
        ("[1]", "no JSON object"),
    ] {
        let fault = parse_turn(line.as_bytes()).unwrap_err();
        assert_eq!(fault.reason, FailureReason::Garbage, "{line}");
        assert!(fault.detail.contains(words), "{line}: {}", fault.detail);
        assert!(
            fault.detail.contains("environment command"),
            "{}",
            fault.detail
        );
    }
    for (line, reason) in [
        (r#"{"id": "1.1", "done": true}"#, FailureReason::Missing),
        (r#"{"id": "1.1", "reward": 1}"#, FailureReason::Missing),
        (
            r#"{"id": "1.1", "done": true, "reward": 1e7}"#,
            FailureReason::OutOfRange,
        ),
        (
            r#"{"id": "1.1", "error": "x", "done": true}"#,
            FailureReason::Refused,
        ),
    ] {
        let answer = parse_turn(line.as_bytes()).unwrap();
        assert_eq!(answer.reply.unwrap_err().reason, reason, "{line}");
    }
    let line =
        r#"{"id": "1.1", "messages": [{"role": "tool", "z": 1.50, "content": "a"}], "k": 0}"#;
    let answer = parse_turn(line.as_bytes()).unwrap();
    assert_eq!(answer.unread, ["k"]);
    let messages = vec![r#"{"role":"tool","z":1.50,"content":"a"}"#.to_owned()];
    let score = None;
    assert_eq!(answer.reply, Ok(Reply::Next { messages, score }));
}

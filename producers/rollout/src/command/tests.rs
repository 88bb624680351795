use std::{collections::BTreeMap, time::Duration};

use vintage_settings::{RewardConfig, RolloutConfig};

use super::{CommandReward, answer::parse_answer};
use crate::{
    open::open_reward,
    reward::{FailureReason, Reward, RewardItem},
};

/// Judge that rewards each completion with its length, unless the completion asks for something
/// else.
const SCRIPT: &str = r#"
import json, os, sys, time
for line in sys.stdin:
    q = json.loads(line)
    said = q["completion"]
    if said == "hang":
        time.sleep(600)
    if said == "die":
        print("cannot judge this", file=sys.stderr, flush=True)
        os._exit(3)
    if said == "babble":
        print("reward = 1", flush=True)
        continue
    if said == "refuse":
        print(json.dumps({"id": q["id"], "error": "no such task"}), flush=True)
        continue
    if said == "stranger":
        print(json.dumps({"id": "x", "reward": 1}), flush=True)
        continue
    reward = float("nan") if said == "nan" else 1e300 if said == "huge" else len(said)
    parts = {"length": len(said), "level": float(q["metadata"].get("level", "0"))}
    if q["answer"] is not None:
        parts["right"] = float(said == q["answer"])
    print(json.dumps({"id": q["id"], "reward": reward, "parts": parts}), flush=True)
"#;

fn config(script: &str, timeout_seconds: f64) -> RewardConfig {
    let command = ["python3", "-u", "-c", script].map(str::to_owned).to_vec();
    RewardConfig {
        command,
        timeout_seconds,
        ..Default::default()
    }
}

fn rollout(reward: RewardConfig) -> RolloutConfig {
    RolloutConfig {
        reward,
        ..Default::default()
    }
}

fn items(completions: &[&str]) -> Vec<RewardItem> {
    let item = |completion: &&str| RewardItem {
        prompt: "2+2=".to_owned(),
        completion: (*completion).to_owned(),
        answer: Some("4".to_owned()),
        metadata: BTreeMap::from([("level".to_owned(), "2".to_owned())]),
        score: None,
    };
    completions.iter().map(item).collect()
}

/// Rewards of the completions, or the reason for which there is none.
async fn judge(
    reward: &mut CommandReward,
    completions: &[&str],
) -> Vec<Result<f32, FailureReason>> {
    let scores = reward.score(items(completions)).await.unwrap();
    scores
        .into_iter()
        .map(|score| {
            score
                .map(|score| score.reward)
                .map_err(|failure| failure.reason)
        })
        .collect()
}

#[tokio::test]
async fn answers_carry_reward_and_parts() {
    let mut reward = open_reward(&rollout(config(SCRIPT, 20.0))).unwrap();
    assert!(!reward.needs_answer());
    let scores = reward.score(items(&["4", "seven"])).await.unwrap();
    let first = scores[0].as_ref().unwrap();
    assert_eq!(first.reward, 1.0);
    let expected = [("length", 1.0), ("level", 2.0), ("right", 1.0)];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(first.parts, Some(BTreeMap::from(expected)));
    assert_eq!(scores[1].as_ref().unwrap().reward, 5.0);
    reward.close().await;
}

#[tokio::test]
async fn thousands_of_questions_fill_no_pipe_for_good() {
    // The command answers only once it has read half a megabyte: a pipe holds 64 KiB.
    let script = r#"
import json, sys
held = []
for line in sys.stdin:
    held.append(json.loads(line)["id"])
    if len(held) == 2000:
        for id in reversed(held):
            print(json.dumps({"id": id, "reward": int(id)}))
        sys.stdout.flush()
"#;
    let mut reward = CommandReward::start(&config(script, 20.0)).unwrap();
    let long = "x".repeat(250);
    let rewards = judge(&mut reward, &vec![long.as_str(); 2000]).await;
    assert_eq!(
        rewards,
        (0..2000).map(|id| Ok(id as f32)).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn one_bad_completion_costs_only_itself() {
    for (bad, reason) in [
        ("die", FailureReason::Died),
        ("babble", FailureReason::Garbage),
        ("stranger", FailureReason::Garbage),
        ("refuse", FailureReason::Refused),
        ("nan", FailureReason::NonFinite),
        ("huge", FailureReason::OutOfRange),
    ] {
        let mut reward = CommandReward::start(&config(SCRIPT, 20.0)).unwrap();
        let rewards = judge(&mut reward, &["a", "bb", bad, "ccc"]).await;
        assert_eq!(rewards, [Ok(1.0), Ok(2.0), Err(reason), Ok(3.0)], "{bad}");
        // The next call works as usual.
        assert_eq!(judge(&mut reward, &["dddd"]).await, [Ok(4.0)], "{bad}");
    }
}

#[tokio::test]
async fn a_hanging_completion_is_timed_out_and_the_rest_judged() {
    let mut reward = CommandReward::start(&config(SCRIPT, 3.0)).unwrap();
    let rewards = judge(&mut reward, &["a", "hang", "bb"]).await;
    assert_eq!(rewards, [Ok(1.0), Err(FailureReason::Timeout), Ok(2.0)]);
}

#[tokio::test]
async fn a_command_that_only_fails_is_given_up_with_its_last_words() {
    let script = "import sys; print('no module named judge', file=sys.stderr); sys.exit(7)";
    let mut reward = CommandReward::start(&config(script, 20.0)).unwrap();
    let mut five = items(&["a", "b", "c", "d", "e"]);
    for (number, item) in five.iter_mut().enumerate() {
        item.prompt = format!("{number}+2=");
    }
    let message = reward.score(five).await.unwrap_err().to_string();
    assert!(message.contains("after 3 restarts in a row"), "{message}");
    assert!(message.contains("exit status: 7"), "{message}");
    assert!(message.contains("no module named judge"), "{message}");
}

/// A group has more completions than a command has restarts.
#[tokio::test]
async fn a_prompt_on_which_the_command_dies_fails_alone() {
    let mut settings = config(SCRIPT, 20.0);
    settings.max_restarts = 3;
    let mut reward = CommandReward::start(&settings).unwrap();
    let rewards = judge(&mut reward, &["die"; 8]).await;
    assert_eq!(rewards, [const { Err(FailureReason::Died) }; 8]);
    assert_eq!(judge(&mut reward, &["bb"]).await, [Ok(2.0)]);
}

#[tokio::test]
async fn endless_garbage_without_a_newline_is_cut_off() {
    let script = "import sys\nwhile True: sys.stdout.write('x' * 65536)";
    let mut settings = config(script, 20.0);
    settings.max_restarts = 0;
    let mut reward = CommandReward::start(&settings).unwrap();
    let message = reward.score(items(&["a"])).await.unwrap_err().to_string();
    assert!(message.contains("1048576 bytes"), "{message}");
}

#[tokio::test]
async fn a_missing_program_is_an_error_at_once() {
    let command = vec!["no-such-reward-program".to_owned()];
    let settings = RewardConfig {
        command,
        ..Default::default()
    };
    let message = open_reward(&rollout(settings)).err().unwrap().to_string();
    assert!(message.contains("no-such-reward-program"), "{message}");
    assert!(message.contains("reward.command"), "{message}");
}

/// Shell that starts another program; both must be killed.
#[tokio::test]
async fn killing_takes_the_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let script = format!(
        "sleep 600 & echo $! > {}; cat >/dev/null; wait",
        pid_file.display()
    );
    let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let settings = RewardConfig {
        command,
        // Long enough for a shell to begin on a busy machine.
        timeout_seconds: 3.0,
        max_restarts: 0,
        ..Default::default()
    };
    let mut reward = CommandReward::start(&settings).unwrap();
    reward.score(items(&["a"])).await.unwrap_err();
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let pid: u32 = pid.trim().parse().unwrap();
    let gone = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .expect("the child was killed");
}

/// Returns true if a process exists and is not a zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|text| {
        !text
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}

#[test]
fn lines_are_read_or_refused() {
    let garbage = |line: &str| {
        let fault = parse_answer(line.as_bytes()).unwrap_err();
        assert_eq!(fault.reason, FailureReason::Garbage, "{line}");
        fault.detail
    };
    assert!(garbage("reward: 1").contains("reward: 1"));
    assert!(garbage(&"x".repeat(5000)).len() < 600);
    assert!(garbage("{\"reward\": 1}").contains("has no \"id\""));
    garbage("");
    garbage("[1]");
    for (line, words) in [
        (r#"{"id": "1", "reward": true}"#, ["is true", "write 1.0"]),
        (
            r#"{"id": "1", "reward": "1.0"}"#,
            ["is \"1.0\"", "without quotation marks"],
        ),
        (r#"{"id": "1", "reward": "high"}"#, ["a text", "the number"]),
        (
            r#"{"id": "1", "reward": [1, 0]}"#,
            ["is [1,0]", "one number"],
        ),
        (
            r#"{"id": "1", "reward": 1, "parts": {"form": true}}"#,
            ["\"parts.form\" is true", "1.0"],
        ),
        (
            r#"{"id": "1", "reward": 1, "parts": [1]}"#,
            ["\"parts\" are [1]", "an object of names"],
        ),
        (r#"{"id": 1, "reward": 1}"#, ["\"id\" is 1", "as a text"]),
    ] {
        let said = garbage(line);
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{line}: {said}"
        );
        assert!(
            !said.contains("f64") && !said.contains("column"),
            "{line}: {said}"
        );
    }

    let refused = |line: &str| {
        let answer = parse_answer(line.as_bytes()).unwrap();
        assert_eq!(answer.id, "1", "{line}");
        let failure = answer.score.unwrap_err();
        (failure.reason, failure.detail)
    };
    for line in [
        r#"{"id": "1", "reward": Infinity}"#,
        r#"{"id": "1", "reward": -Infinity}"#,
        r#"{"id": "1", "reward": 1, "parts": {"a": NaN}}"#,
        r#"{"id": "1", "reward": null}"#,
    ] {
        assert_eq!(refused(line).0, FailureReason::NonFinite, "{line}");
    }
    for line in [
        r#"{"id": "1", "reward": 1e39}"#,
        r#"{"id": "1", "reward": -1000001}"#,
        r#"{"id": "1", "reward": 0, "parts": {"seconds": 1e38}}"#,
    ] {
        let (reason, detail) = refused(line);
        assert_eq!(reason, FailureReason::OutOfRange, "{line}");
        assert!(detail.contains("±1000000"), "{detail}");
    }
    let (reason, detail) = refused(r#"{"id": "1", "score": 1}"#);
    assert_eq!(reason, FailureReason::Missing);
    let said = "which has no \"reward\" (its keys: \"id\", \"score\")";
    assert!(detail.contains(said), "{detail}");

    let largest = parse_answer(br#"{"id": "1", "reward": -1e6, "why": "x"}"#).unwrap();
    assert_eq!(largest.score.unwrap().reward, -1e6);
    assert_eq!(largest.unread, ["why"]);
}

/// Judge that never flushes: Python keeps output to a pipe in its buffer up to 8 KiB.
#[tokio::test]
async fn a_judge_that_forgets_to_flush_is_heard() {
    let script = r#"
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "reward": 1}))
"#;
    let command = ["python3", "-c", script].map(str::to_owned).to_vec();
    let settings = RewardConfig {
        command,
        timeout_seconds: 20.0,
        ..Default::default()
    };
    let mut reward = CommandReward::start(&settings).unwrap();
    assert_eq!(judge(&mut reward, &["a", "b"]).await, [Ok(1.0), Ok(1.0)]);
}

#[tokio::test]
async fn a_command_runs_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |command: &[&str]| RewardConfig {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        directory: Some(folder.path().to_owned()),
        timeout_seconds: 20.0,
        ..Default::default()
    };
    std::fs::write(folder.path().join("judge.py"), SCRIPT).unwrap();
    let mut reward = CommandReward::start(&settings(&["python3", "judge.py"])).unwrap();
    assert_eq!(judge(&mut reward, &["abc"]).await, [Ok(3.0)]);

    let refused = |settings: &RewardConfig| CommandReward::start(settings).err().unwrap();
    let error = refused(&settings(&["python3", "jugde.py"]));
    let message = error.to_string();
    for words in [
        "no jugde.py in",
        "there is judge.py",
        "rollout.reward.directory",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(error.fault(), vintage_control::Fault::User);
    let mut nowhere = settings(&["cat"]);
    nowhere.directory = Some(folder.path().join("none"));
    let message = refused(&nowhere).to_string();
    assert!(message.contains("there is no folder"), "{message}");
}

use std::collections::BTreeMap;

use vintage_settings::EnvironmentConfig;

use super::{
    lead::{exact, numbers},
    scripted::{LOGPROB, Script, ScriptedEngine},
    stage::{Stage, start},
};
use crate::{Environment, EpisodeReward, ProducerEvent, Worker};

/// Environment of two turns, which refuses the episodes of the first prompt that it hears of.
const SCRIPT: &str = r#"
import json, sys
first = None
for line in sys.stdin:
    q = json.loads(line)
    if q.get("abandon"):
        continue
    first = first or q["prompt_id"]
    if q["prompt_id"] == first:
        answer = {"error": "no such world"}
    elif q["turn"] == 1:
        answer = {"messages": [{"role": "tool", "content": "go on"}]}
    else:
        answer = {"done": True, "reward": len(q["messages"]), "parts": {"form": 1}}
    print(json.dumps({"id": q["id"], **answer}), flush=True)
"#;

/// A group with an episode that failed gets no number, its slot is granted again, and the others are
/// published as conversations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_are_published_and_failed_ones_made_up_for() {
    let mut stage = Stage::new().await;
    let script = Script {
        context: 200,
        ..Script::default()
    };
    let setup = |stage: &Stage| {
        let mut setup = stage.setup(ScriptedEngine::new(script.clone()));
        let config = EnvironmentConfig {
            command: ["python3", "-u", "-c", SCRIPT].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        setup.environment = Some(Environment::start(&config).unwrap());
        setup.reward = Box::new(EpisodeReward);
        setup
    };
    let message = Worker::new(setup(&stage)).err().unwrap().to_string();
    assert!(message.contains("prompts.chat"), "{message}");

    let mut setup = setup(&stage);
    setup.prompts = setup.prompts.as_chats();
    let mut running = start(setup);
    let id = running.id.clone();
    stage.version(0).await;
    stage.grant(&id, &exact(0..4, 0)).await;
    let groups = stage.groups(3).await;
    let report = stage
        .report_of(&id, |report| {
            numbers(&report.failed).len() == 1 && numbers(&report.held).is_empty()
        })
        .await;
    assert_eq!(numbers(&report.failed), [0]);
    running
        .until(|event| {
            matches!(
                event,
                ProducerEvent::RewardFailed {
                    reason: "refused",
                    ..
                }
            )
        })
        .await;
    stage.finish().await;
    let summary = running.end().await.unwrap();
    assert_eq!(summary.failed, BTreeMap::from([("refused", 1)]));
    for row in groups.iter().flat_map(|group| &group.rows) {
        let digits = [row.completion_tokens[0], row.completion_tokens[2]];
        assert_eq!(
            row.completion_tokens,
            [digits[0], i32::from(b'+'), digits[1]]
        );
        assert_eq!(row.behavior_logprobs, [LOGPROB, 0.0, LOGPROB]);
        assert_eq!(row.loss_mask, Some(vec![true, false, true]));
        assert_eq!((row.reward, row.policy_spans.len()), (3.0, 1));
        let parts = [("form", 1.0), ("turn_2", 3.0)].map(|(name, part)| (name.to_owned(), part));
        assert_eq!(row.reward_parts, Some(BTreeMap::from(parts)));
        let metadata = row.metadata.as_ref().unwrap();
        assert_eq!(metadata["turns"], "2");
        assert_eq!(metadata["environment_tokens"], "1");
    }
}

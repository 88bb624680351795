//! Progress as JSON lines, for programs (`--log-format json`); `docs/reference.md` gives their shape.

use serde_json::{Value, json};
use vintage_flow::RunEvent;
use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;

/// Returns the line of an event without its time; `None` for events that programs have no use for.
pub(super) fn line(event: &RunEvent) -> Option<Value> {
    Some(match event {
        RunEvent::Phase(phase) => json!({ "event": "phase", "phase": phase }),
        RunEvent::WarmStart { step, steps, loss } => {
            json!({ "event": "warm_start", "step": step, "steps": steps, "loss": loss })
        }
        RunEvent::Learner(LearnerEvent::Recovered { version, rerun }) => {
            json!({ "event": "recovered", "version": version, "rerun": rerun })
        }
        RunEvent::Learner(LearnerEvent::Updated(result)) => {
            json!({ "event": "update", "update": result.update(), "result": result })
        }
        RunEvent::Learner(LearnerEvent::Rejected {
            update,
            groups,
            reasons,
        }) => json!({
            "event": "rejected", "update": update, "groups": groups, "reasons": reasons,
        }),
        RunEvent::Evaluated { result, measured } => {
            json!({ "event": "evaluation", "measured": measured.name(), "result": result })
        }
        RunEvent::Producer(ProducerEvent::Published {
            tokens,
            reward,
            version,
            ..
        }) => json!({
            "event": "published", "version": version, "tokens": tokens, "reward": reward,
        }),
        RunEvent::Archived { records, bad } => {
            json!({ "event": "archived", "records": records, "quarantined": bad })
        }
        RunEvent::Replayed { done, updates } => {
            json!({ "event": "replayed", "done": done, "of": updates })
        }
        RunEvent::Republished { records, of } => {
            json!({ "event": "republished", "done": records, "of": of })
        }
        RunEvent::Examined {
            version,
            done,
            prompts,
        } => json!({ "event": "examined", "version": version, "done": done, "of": prompts }),
        RunEvent::Standstill(text) => json!({ "event": "standstill", "text": text }),
        RunEvent::Warning(text) => json!({ "event": "warning", "text": text }),
        RunEvent::Learner(_)
        | RunEvent::Producer(_)
        | RunEvent::Fleet(_)
        | RunEvent::Announced { .. }
        | RunEvent::Evaluating { .. } => return None,
    })
}

/// Returns the line of an event with its time in front.
pub(super) fn timed(event: &RunEvent, at: jiff::Timestamp) -> Option<String> {
    let line = line(event)?.to_string();
    let rest = line.strip_prefix('{')?;
    Some(format!("{{\"timestamp\":\"{at}\",{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_its_time_and_is_json() {
        let event = RunEvent::Phase("training \"on\"".to_owned());
        let at = jiff::Timestamp::from_second(1_795_000_000).expect("a time");
        let line = timed(&event, at).expect("a line");
        assert!(line.starts_with("{\"timestamp\":\"2026-11-18T"), "{line}");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&read["event"], &read["phase"]),
            (&"phase".into(), &"training \"on\"".into())
        );
        assert_eq!(timed(&RunEvent::Announced { finished: true }, at), None);
    }
}

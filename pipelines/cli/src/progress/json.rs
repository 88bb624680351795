//! Progress as JSON lines, for programs (`--log-format json`); `docs/reference.md` gives their shape.

use std::collections::BTreeMap;

use serde::Serialize;
use vintage_control::{EvaluationResult, PolicyVersion, UpdateNumber, UpdateResult};
use vintage_flow::RunEvent;
use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;

/// Object of a line: an event with its time.
#[derive(Serialize)]
struct Timed<'a> {
    timestamp: String,
    #[serde(flatten)]
    line: Line<'a>,
}

/// Event as programs read it.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Phase {
        phase: &'a str,
    },
    WarmStart {
        step: u64,
        steps: u64,
        loss: f64,
    },
    Recovered {
        version: PolicyVersion,
        rerun: u64,
    },
    Update {
        update: UpdateNumber,
        result: &'a UpdateResult,
    },
    Rejected {
        update: UpdateNumber,
        groups: u64,
        reasons: &'a BTreeMap<&'static str, u64>,
    },
    Evaluation {
        measured: &'static str,
        result: &'a EvaluationResult,
    },
    Published {
        version: PolicyVersion,
        tokens: u64,
        reward: f32,
    },
    Archived {
        records: u64,
        quarantined: &'a BTreeMap<&'static str, u64>,
    },
    Replayed {
        done: u64,
        of: u64,
    },
    Republished {
        done: u64,
        of: u64,
    },
    Examined {
        version: PolicyVersion,
        done: u64,
        of: u64,
    },
    Recomputed {
        version: PolicyVersion,
        done: u64,
        of: u64,
    },
    Differentiated {
        version: PolicyVersion,
        done: u64,
        of: u64,
    },
    Standstill {
        text: &'a str,
    },
    Warning {
        text: &'a str,
    },
}

/// Returns the line of an event; `None` for events that programs have no use for.
fn line(event: &RunEvent) -> Option<Line<'_>> {
    Some(match event {
        RunEvent::Phase(phase) => Line::Phase { phase },
        RunEvent::WarmStart { step, steps, loss } => Line::WarmStart {
            step: *step,
            steps: *steps,
            loss: *loss,
        },
        RunEvent::Learner(LearnerEvent::Recovered { version, rerun }) => Line::Recovered {
            version: *version,
            rerun: *rerun,
        },
        RunEvent::Learner(LearnerEvent::Updated(result)) => Line::Update {
            update: result.update(),
            result,
        },
        RunEvent::Learner(LearnerEvent::Rejected {
            update,
            groups,
            reasons,
        }) => Line::Rejected {
            update: *update,
            groups: *groups,
            reasons,
        },
        RunEvent::Evaluated { result, measured } => Line::Evaluation {
            measured: measured.name(),
            result,
        },
        RunEvent::Producer(ProducerEvent::Published {
            tokens,
            reward,
            version,
            ..
        }) => Line::Published {
            version: *version,
            tokens: *tokens,
            reward: *reward,
        },
        RunEvent::Archived { records, bad } => Line::Archived {
            records: *records,
            quarantined: bad,
        },
        RunEvent::Replayed { done, updates } => Line::Replayed {
            done: *done,
            of: *updates,
        },
        RunEvent::Republished { records, of } => Line::Republished {
            done: *records,
            of: *of,
        },
        RunEvent::Examined {
            version,
            done,
            prompts,
        } => Line::Examined {
            version: *version,
            done: *done,
            of: *prompts,
        },
        RunEvent::Recomputed { version, done, of } => Line::Recomputed {
            version: *version,
            done: *done,
            of: *of,
        },
        RunEvent::Differentiated { version, done, of } => Line::Differentiated {
            version: *version,
            done: *done,
            of: *of,
        },
        RunEvent::Standstill(text) => Line::Standstill { text },
        RunEvent::Warning(text) => Line::Warning { text },
        RunEvent::Learner(_)
        | RunEvent::Producer(_)
        | RunEvent::Fleet(_)
        | RunEvent::Announced { .. }
        | RunEvent::Evaluating { .. } => return None,
    })
}

/// Returns the line of an event with its time in front.
pub(super) fn timed(event: &RunEvent, at: jiff::Timestamp) -> Option<String> {
    let timed = Timed {
        timestamp: at.to_string(),
        line: line(event)?,
    };
    serde_json::to_string(&timed).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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

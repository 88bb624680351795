use vintage_control::{CONTROL_FORMAT, Offset, Partition, PolicyVersion, UpdateResult};
use vintage_trajectory::GroupId;

use self::fixture::result;
use super::*;

#[path = "../../../flow/src/fixture.rs"]
mod fixture;

fn updated(version: u64) -> RunEvent {
    RunEvent::Learner(LearnerEvent::Updated(Box::new(result(version))))
}

/// Returns the lines shown for events at the given seconds.
fn lines(display: Display, events: &[(f64, RunEvent)]) -> Vec<String> {
    let (screen, captured) = Screen::capture();
    let mut progress = Progress::new(display, screen, 400);
    let at = |seconds: f64| progress.started + Duration::from_secs_f64(seconds);
    let times: Vec<_> = events.iter().map(|(seconds, _)| at(*seconds)).collect();
    for (time, (_, event)) in times.into_iter().zip(events) {
        progress.show(event, time);
    }
    progress.finish();
    let bytes = captured.lock().expect("no panic").clone();
    String::from_utf8(bytes)
        .expect("text")
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn plain_lines_come_every_two_seconds_and_at_the_end() {
    let events: Vec<_> = (0..=40)
        .map(|i| (f64::from(i) * 0.25, updated(i as u64)))
        .collect();
    let lines = lines(Display::Lines, &events);
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert_eq!(
        lines[5],
        "41/400 updates  4.0 updates/s  1 min 30 s left  reward 0.500 (mean of 41: 0.500)  staleness 6.0 (max 17)  \
         masked 2.0 %  4,000 tokens/s"
    );
}

#[test]
fn what_was_held_back_is_shown_when_the_phase_ends() {
    let events = [
        (0.0, RunEvent::Phase("warm start".to_owned())),
        (
            0.1,
            RunEvent::WarmStart {
                step: 1,
                steps: 9,
                loss: 2.5,
            },
        ),
        (
            0.2,
            RunEvent::WarmStart {
                step: 2,
                steps: 9,
                loss: 2.25,
            },
        ),
        (0.3, RunEvent::Phase("training".to_owned())),
    ];
    let expected = [
        "warm start",
        "warm start 1/9  loss 2.500",
        "warm start 2/9  loss 2.250",
        "training",
    ];
    assert_eq!(lines(Display::Lines, &events), expected);
}

#[test]
fn what_stands_still_and_what_is_to_be_known_are_lines_of_their_own() {
    let events = [
        (
            0.0,
            RunEvent::Standstill("no update for 5 s: why".to_owned()),
        ),
        (0.1, RunEvent::Warning("it is far".to_owned())),
    ];
    let expected = ["no update for 5 s: why", "warning: it is far"];
    assert_eq!(lines(Display::Lines, &events), expected);
}

/// A mean alone would be mistaken for the current value, and hide it.
#[test]
fn the_last_update_is_shown_and_the_mean_is_called_one() {
    let rising = |version: u64| {
        let result = UpdateResult {
            reward: version as f64 / 10.0,
            ..result(version)
        };
        let event = RunEvent::Learner(LearnerEvent::Updated(Box::new(result)));
        (version as f64 * 3.0, event)
    };
    let lines = lines(Display::Lines, &(0..3).map(rising).collect::<Vec<_>>());
    let shown = "reward 0.200 (mean of 3: 0.100)  staleness 6.0";
    assert!(lines[2].contains(shown), "{lines:#?}");
}

#[test]
fn nothing_is_made_up_before_it_can_be_measured() {
    let expected = "1/400 updates  reward 0.500  staleness 6.0 (max 17)  masked 2.0 %";
    assert_eq!(lines(Display::Lines, &[(0.0, updated(0))]), [expected]);
    let last = lines(Display::Lines, &[(0.0, updated(398)), (1.0, updated(399))]);
    assert!(
        last[1].starts_with("400/400 updates  1.0 updates/s  reward"),
        "{last:#?}"
    );
}

fn published(seq: u64) -> RunEvent {
    RunEvent::Producer(ProducerEvent::Published {
        group: GroupId([0; 16]),
        partition: Partition(0),
        offset: Offset(0),
        seq,
        batch: -1,
        version: PolicyVersion(3),
        rows: 8,
        tokens: 500,
        bytes: 4000,
        parts: 1,
        reward: 0.25,
        equal: false,
        cut: 0,
        excerpt: None,
    })
}

#[test]
fn a_producer_on_its_own_shows_what_it_publishes() {
    let events: Vec<_> = (0..=10_u32)
        .map(|i| (f64::from(i) * 0.5, published(u64::from(i))))
        .collect();
    let alone = lines(Display::Lines, &events);
    assert_eq!(alone[0], "published 1 groups  version 3  reward 0.250");
    let last = "published 11 groups  version 3  reward 0.250  1,000 tokens/s";
    assert_eq!(alone.last().map(String::as_str), Some(last));
    let beside: Vec<_> = [(0.0, updated(0))].into_iter().chain(events).collect();
    assert_eq!(lines(Display::Lines, &beside).len(), 1);
}

#[test]
fn silence_is_kept() {
    let events = [
        (0.0, RunEvent::Phase("training".to_owned())),
        (1.0, updated(0)),
    ];
    assert!(lines(Display::Silent, &events).is_empty());
}

#[test]
fn evaluations_and_recovery_are_told() {
    let recovered = LearnerEvent::Recovered {
        version: PolicyVersion(25),
        rerun: 3,
    };
    let result = EvaluationResult {
        format: CONTROL_FORMAT.to_owned(),
        policy: "lead".parse().expect("a name"),
        version: PolicyVersion(25),
        sampled_accuracy: 0.715,
        greedy_accuracy: 1.0,
        samples: 512,
        seconds: 0.1,
        examples: Vec::new(),
    };
    let evaluated = |measured| RunEvent::Evaluated {
        result: result.clone(),
        measured,
    };
    let events = [
        (0.0, RunEvent::Learner(recovered)),
        (0.1, evaluated(Measured::Accuracy)),
        (0.2, evaluated(Measured::MeanReward)),
    ];
    let expected = [
        "going on at update 25 (3 updates run again from their plans)",
        "version 25: accuracy 71.5 % on 512 held-out prompts (greedy 100.0 %)",
        "version 25: mean reward 0.715 on 512 held-out prompts (greedy 1.000)",
    ];
    assert_eq!(lines(Display::Lines, &events), expected);
}

#[test]
fn bars_show_how_far_and_how_well() {
    let (screen, captured) = Screen::capture();
    let mut progress = Progress::new(Display::Bars, screen, 400);
    let start = progress.started;
    for i in 0..=100 {
        progress.show(&updated(i), start + Duration::from_millis(i * 100));
    }
    let bars = progress.bars.as_ref().expect("shown");
    assert_eq!((bars.far.position(), bars.far.length()), (101, Some(400)));
    assert_eq!(
        bars.far.message(),
        "101/400 updates  10.0 updates/s  30 s left"
    );
    assert!(
        bars.well.message().starts_with("reward 0.500"),
        "{}",
        bars.well.message()
    );
    progress.finish();
    assert!(
        captured.lock().expect("no panic").is_empty(),
        "bars leave no lines behind"
    );
}

#[test]
fn the_templates_are_valid() {
    for template in [SPINNER, BAR, BELOW] {
        ProgressStyle::with_template(template).expect("a template");
    }
}

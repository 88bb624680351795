use vintage_control::{PolicyVersion, Precision};
use vintage_model::{Decoder, DecoderConfig, ParamSet};
use vintage_trajectory::PolicySpan;

use crate::{cause::Cause, measurement::Measurement, row::Row, score::score};

const VOCABULARY: u32 = 24;
const ENGINE: &str = "engine/1";

fn version(number: u64) -> (PolicyVersion, Decoder) {
    let config = DecoderConfig::tiny(VOCABULARY as usize);
    let mut params = ParamSet::init(&config, number).unwrap();
    // Sharper distributions than those of a fresh model, which are all nearly flat.
    params
        .update(|_, _, values| values.iter_mut().for_each(|value| *value *= 4.0))
        .unwrap();
    (PolicyVersion(number), Decoder::new(config, params).unwrap())
}

/// Returns rows whose log-probs are those of `of` at `temperature`, labelled as version `label`.
fn rows(of: &Decoder, temperature: f32, label: u64) -> Vec<Row> {
    let mut rows: Vec<_> = (0..6_u32)
        .map(|index| Row {
            engine: ENGINE.to_owned(),
            group: "a".repeat(32),
            sample_index: index as u16,
            prompt: vec![1, 2 + index],
            completion: (0..12)
                .map(|at| (at * 7 + index * 5) % VOCABULARY)
                .collect(),
            reported: Vec::new(),
            sampled: vec![true; 12],
            temperature: 0.5,
            raw: false,
            spans: vec![span(0, label)],
        })
        .collect();
    report(&mut rows, of, temperature);
    rows
}

fn span(start: i32, number: u64) -> PolicySpan {
    PolicySpan {
        start,
        version: PolicyVersion(number),
    }
}

fn report(rows: &mut [Row], of: &Decoder, temperature: f32) {
    let there: Vec<_> = rows.iter().collect();
    let scores = score(of, &there, |_| temperature).unwrap();
    for (row, reported) in rows.iter_mut().zip(scores) {
        row.reported = reported;
    }
}

fn cause(rows: Vec<Row>, decoders: &[(PolicyVersion, Decoder)]) -> Cause {
    let mut measurement = Measurement::new(rows);
    let (of, decoder) = &decoders[0];
    measurement.score(*of, decoder).unwrap();
    let found = measurement.mismatches(Precision::F32);
    assert!(found[0].mean > 0.1, "{found:?}");
    measurement.explain(ENGINE, decoders).unwrap()
}

#[test]
fn honest_log_probs_have_no_mismatch_whatever_the_batch() {
    let (three, decoder) = version(3);
    let rows = rows(&decoder, 0.5, 3);
    let mut measurement = Measurement::new(rows);
    measurement.score(three, &decoder).unwrap();
    let found = measurement.mismatches(Precision::F32);
    assert_eq!((found[0].rows, found[0].tokens), (6, 72));
    assert!(found[0].mean < 1e-6 && found[0].kl < 1e-9, "{found:?}");
    assert_eq!(found[0].beyond_tenth, 0.0);
}

#[test]
fn each_token_is_measured_under_the_version_that_sampled_it() {
    let (three, four) = (version(3), version(4));
    let mut rows = rows(&three.1, 0.5, 3);
    let mut later = rows.clone();
    report(&mut later, &four.1, 0.5);
    for (row, later) in rows.iter_mut().zip(later) {
        row.spans = vec![span(0, 3), span(5, 4)];
        row.reported[5..].copy_from_slice(&later.reported[5..]);
        // Token 7 was not sampled, so its log-prob means nothing.
        row.sampled[7] = false;
        row.reported[7] = -500.0;
    }
    let mut measurement = Measurement::new(rows);
    assert_eq!(measurement.versions(), [three.0, four.0]);
    measurement.score(three.0, &three.1).unwrap();
    assert_eq!(measurement.mismatches(Precision::F32)[0].tokens, 30);
    measurement.score(four.0, &four.1).unwrap();
    let found = &measurement.mismatches(Precision::F32)[0];
    assert_eq!((found.rows, found.tokens), (6, 66));
    assert!(found.mean < 1e-6, "{found:?}");
    assert_eq!(measurement.by_version(Precision::F32).len(), 2);
}

#[test]
fn the_worst_token_is_named() {
    let (three, decoder) = version(3);
    let mut rows = rows(&decoder, 0.5, 3);
    rows[4].reported[9] -= 3.0;
    let token = rows[4].completion[9];
    let mut measurement = Measurement::new(rows);
    measurement.score(three, &decoder).unwrap();
    let found = &measurement.mismatches(Precision::F32)[0];
    let worst = &found.worst;
    assert_eq!(
        (worst.sample_index, worst.position, worst.token),
        (4, 9, token)
    );
    assert!((worst.recomputed - worst.reported - 3.0).abs() < 1e-5);
    assert!((found.mean - 3.0 / 72.0).abs() < 1e-5);
    // e^3 - 1 - 3, over the tokens.
    assert!(
        (found.kl - (3.0_f64.exp() - 4.0) / 72.0).abs() < 1e-4,
        "{found:?}"
    );
    assert_eq!(found.beyond_double, 1.0 / 72.0);
}

#[test]
fn likely_causes_are_found() {
    let decoders = || vec![version(3), version(2), version(4)];
    let (_, labelled) = version(3);

    let raw = rows(&labelled, 1.0, 3);
    assert_eq!(cause(raw, &decoders()), Cause::Temperature);

    let mut shifted = rows(&labelled, 0.5, 3);
    for row in &mut shifted {
        row.reported.rotate_left(1);
    }
    assert_eq!(cause(shifted, &decoders()), Cause::Shifted);

    let stale = rows(&version(2).1, 0.5, 3);
    let expected = Cause::OtherVersion {
        labelled: PolicyVersion(3),
        fits: PolicyVersion(2),
    };
    assert_eq!(cause(stale, &decoders()), expected);

    let mut few = rows(&labelled, 0.5, 3);
    few[0].reported[3] -= 9.0;
    assert_eq!(cause(few, &decoders()), Cause::FewTokens);

    let mut growing = rows(&labelled, 0.5, 3);
    for row in &mut growing {
        for (at, reported) in row.reported.iter_mut().enumerate() {
            *reported -= 0.02 * (at * at) as f32;
        }
    }
    assert_eq!(cause(growing, &decoders()), Cause::Grows);

    let foreign = rows(&version(77).1, 0.5, 3);
    assert_eq!(cause(foreign, &decoders()), Cause::Unknown);
}

#[test]
fn suspects_are_the_version_that_differs_or_has_most_rows_and_its_neighbours() {
    let (_, decoder) = version(3);
    let mut all = rows(&decoder, 0.5, 3);
    all[0].spans = vec![span(0, 9)];
    let mut measurement = Measurement::new(all);
    let there = [0, 2, 3, 7, 9].map(PolicyVersion);
    assert_eq!(
        measurement.suspects(ENGINE, &there),
        [3, 2, 7, 0].map(PolicyVersion)
    );
    assert!(measurement.suspects("another", &there).is_empty());

    // The rows of version 3 are right, and the one that says 9 is not.
    for at in [3, 9] {
        let (at, decoder) = version(at);
        measurement.score(at, &decoder).unwrap();
    }
    assert_eq!(
        measurement.suspects(ENGINE, &there),
        [9, 7, 0].map(PolicyVersion)
    );
}

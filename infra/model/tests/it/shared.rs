//! Tests of sequences that continue one which is in the batch once.

use vintage_control::Precision;
use vintage_model::{Decoder, Gradients, Packed, Targets};

use crate::models::{adapted, compute, decoder, off, targets, tokens, variants, weights};

/// Number of tokens of a prompt, and of each of its completions.
type Group = (usize, &'static [usize]);

/// Groups for both attention kernels: one of 64 keys at most, one that its completions make longer, one
/// whose prompt is longer already. A completion of one token adds no sequence.
const GROUPS: [Group; 4] = [
    (5, &[3, 1, 20, 8]),
    (40, &[1, 90, 30]),
    (70, &[2, 1, 70]),
    (1, &[1, 1]),
];

/// Returns the groups' rows, each with its prompt or with one that all rows of a group share. The batch
/// begins and ends with a sequence that shares nothing.
fn batch(vocab: usize, shares: bool) -> (Packed, Targets) {
    let (mut packed, mut positions) = (Packed::default(), Vec::new());
    let alone = |packed: &mut Packed, seed| {
        let row = [tokens(3, vocab, seed), tokens(4, vocab, seed + 1)];
        let [prompt, completion] = row.each_ref().map(|part| part.iter().copied());
        packed.push_row(prompt, completion).collect::<Vec<_>>()
    };
    positions.extend(alone(&mut packed, 90));
    for (group, (prompt, completions)) in (0..).zip(GROUPS) {
        let prompt = tokens(prompt, vocab, group);
        let prompt = || prompt.iter().copied();
        let shared = shares.then(|| packed.push(prompt(), None));
        for (row, &len) in (0..).zip(completions) {
            let completion = tokens(len, vocab, 100 * (group + 1) + row);
            let completion = completion.iter().copied();
            positions.extend(match shared {
                Some(shared) => packed.push_completion(shared, completion),
                None => packed.push_row(prompt(), completion),
            });
        }
    }
    positions.extend(alone(&mut packed, 95));
    (packed, targets(&positions, vocab, 7))
}

/// Returns log-probs, and every gradient with its name.
fn pass(decoder: &Decoder, shares: bool) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let (batch, targets) = batch(decoder.config().vocab_size, shares);
    let (scored, tape) = decoder.forward(&batch, &targets).unwrap();
    let mut grads = Gradients::zeros_like(decoder.trainable()).unwrap();
    let slopes = weights(targets.len());
    decoder.backward(tape, &slopes, &mut grads).unwrap();
    let named = |name: &str| (name.to_owned(), grads.get(name).unwrap().to_vec());
    (
        scored.logprob,
        grads.iter().map(|(name, _)| named(name)).collect(),
    )
}

#[test]
fn a_shared_prompt_gives_the_log_probs_and_gradients_of_one_in_every_row() {
    for (name, mut config) in variants() {
        config.max_position_embeddings = 200;
        for with_adapters in [false, true] {
            let mut decoder = decoder(&config, 0.35, 11);
            if with_adapters {
                decoder = adapted(decoder, 1);
            }
            let (expected, expected_gradients) = pass(&decoder, false);
            let (found, gradients) = pass(&decoder, true);
            for (at, (a, b)) in expected.iter().zip(&found).enumerate() {
                assert!((a - b).abs() < 5e-6, "{name}: target {at}: {a} {b}");
            }
            for ((parameter, expected), (_, found)) in expected_gradients.iter().zip(&gradients) {
                let off = off(expected, found);
                assert!(off < 2e-5, "{name}: {parameter} is off by {off}");
            }
            decoder.set_compute(compute(Precision::F32, true));
            let again = pass(&decoder, true);
            assert!(again == (found, gradients), "{name}: recomputed layers");
        }
    }
}

#[test]
fn a_shared_prompt_is_in_the_batch_once() {
    let (shared, whole) = (batch(11, true).0, batch(11, false).0);
    let prompts: usize = GROUPS
        .iter()
        .map(|(prompt, rows)| prompt * (rows.len() - 1))
        .sum();
    assert_eq!(shared.tokens.len() + prompts, whole.tokens.len());
    assert_eq!(shared.longest(), whole.longest());
}

#[test]
fn what_a_sequence_cannot_continue_is_refused() {
    let (_, mut config) = variants().remove(0);
    config.max_position_embeddings = 10;
    let decoder = decoder(&config, 0.35, 11);
    let refused = |lens: &[usize], continues: &[Option<usize>]| {
        let mut packed = Packed::default();
        for (&len, &continued) in lens.iter().zip(continues) {
            packed.push(tokens(len, 11, 1), continued);
        }
        packed.continues.resize(continues.len(), None);
        let targets = targets(&[0], 11, 2);
        decoder.score(&packed, &targets).unwrap_err().to_string()
    };
    for (said, message) in [
        ("sequence 0 continues sequence 0", refused(&[2], &[Some(0)])),
        (
            "sequence 0 continues sequence 1",
            refused(&[2, 2], &[Some(1), None]),
        ),
        (
            "sequence 2 continues sequence 1; it can continue an earlier one that continues none",
            refused(&[2, 2, 2], &[None, Some(0), Some(1)]),
        ),
        (
            "sequence 1 has 11 tokens",
            refused(&[8, 3], &[None, Some(0)]),
        ),
        ("2 sequences start, and 3 say", refused(&[2, 2], &[None; 3])),
    ] {
        assert!(message.contains(said), "{message}");
    }
}

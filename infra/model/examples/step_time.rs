//! Benchmark of a training step and of sampling, for two models:
//!
//! - the tiny model at the batch of the staleness experiment's setting A: forward + backward over
//!   128 rows of 7 + 5 tokens, 6 targets each, and 6 tokens sampled for each of 128 prompts of 7;
//! - width 256, 4 layers, 8 heads, SwiGLU 768, vocabulary 512, 16 rows of 128 tokens, where PyTorch
//!   2.15 (eager, SDPA) needs 486 ms on one core of the same kind.
//!
//! Run `RAYON_NUM_THREADS=1 taskset -c 0 cargo run --release -p vintage-model --example step_time`.
//! After `--`, give part of a name to time only the matching cases.
//!
//! Best times on one core of a 2-core Xeon with AVX-512 whose other core was busy, in ms: tiny
//! score 2.6, forward 2.7, forward + backward 7.8, sample 128 different prompts 3.3, 16 x 8 prompts
//! 2.2; width 256 forward 130, forward + backward 412, with 2 threads 77 and 290.
//! `MIMALLOC_PURGE_DELAY=1000` saves 9 % of the wider model's step in page faults.
#![expect(clippy::print_stdout, reason = "its output is the point")]

use std::time::Instant;

use vintage_model::{
    Decoder, DecoderConfig, Error, Gradients, Packed, ParamSet, SamplingParams, Targets,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Error> {
    let tiny = DecoderConfig::tiny(13);
    train("tiny", &tiny, 12, 6, 300)?;
    sample(&tiny)?;
    let mut wider = DecoderConfig::tiny(512);
    wider.hidden_size = 256;
    wider.intermediate_size = 768;
    wider.num_hidden_layers = 4;
    wider.num_attention_heads = 8;
    wider.num_key_value_heads = 8;
    wider.head_dim = 32;
    train("width 256", &wider, 128, 0, 10)
}

fn token(row: usize, t: usize, vocab: usize) -> u32 {
    // Mixed well enough that no two rows are alike.
    let mixed = (row as u64 * 131 + t as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 33) % vocab as u64) as u32
}

/// Times the passes over rows of `len` tokens, about 2048 in all, with targets from position
/// `from`.
fn train(
    name: &str,
    config: &DecoderConfig,
    len: usize,
    from: usize,
    runs: usize,
) -> Result<(), Error> {
    let decoder = Decoder::new(config.clone(), ParamSet::init(config, 1)?)?;
    let rows = if len > 100 { 16 } else { 128 };
    let vocab = config.vocab_size;
    let tokens = |row| (0..len).map(|t| token(row, t, vocab)).collect::<Vec<_>>();
    let packed = Packed::new((0..rows).map(tokens));
    let mut targets = Targets::default();
    for (row, t) in (0..rows).flat_map(|row| (from..len).map(move |t| (row, t))) {
        targets.position.push((row * len + t) as u32);
        targets.token.push(token(row, t + 1, vocab));
        targets.temperature.push(1.0);
    }
    let weights: Vec<f32> = (0..targets.len())
        .map(|i| (i % 5) as f32 * 1e-3 - 2e-3)
        .collect();
    let mut grads = Gradients::zeros_like(decoder.params())?;
    time(&format!("{name}: score"), runs, || {
        decoder.score(&packed, &targets).map(drop)
    })?;
    time(&format!("{name}: forward"), runs, || {
        decoder.forward(&packed, &targets).map(drop)
    })?;
    time(&format!("{name}: forward + backward"), runs, || {
        let (_, tape) = decoder.forward(&packed, &targets)?;
        decoder.backward(tape, &weights, &mut grads)
    })
}

fn sample(config: &DecoderConfig) -> Result<(), Error> {
    let decoder = Decoder::new(config.clone(), ParamSet::init(config, 1)?)?;
    let params = SamplingParams {
        max_tokens: 6,
        ..SamplingParams::default()
    };
    let seeds: Vec<u64> = (0..128).collect();
    let prompt = |row| {
        (0..7)
            .map(|t| token(row, t, config.vocab_size))
            .collect::<Vec<_>>()
    };
    let different: Vec<_> = (0..128).map(prompt).collect();
    time("tiny: sample, 128 different prompts", 300, || {
        decoder.generate(&different, &params, &seeds).map(drop)
    })?;
    let grouped: Vec<_> = (0..128).map(|row| prompt(row / 8)).collect();
    time("tiny: sample, 16 prompts x 8", 300, || {
        decoder.generate(&grouped, &params, &seeds).map(drop)
    })
}

fn time(name: &str, runs: usize, mut run: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    if std::env::args()
        .nth(1)
        .is_some_and(|filter| !name.contains(&filter))
    {
        return Ok(());
    }
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{name:40} best {:7.2} ms, median {:7.2} ms",
        times[0],
        times[runs / 2]
    );
    Ok(())
}

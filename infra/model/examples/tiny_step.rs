//! Times of the tiny model of the main job, at the batch of the staleness experiment's setting
//! A: forward + backward over 128 rows of 7 + 5 tokens, and sampling 6 tokens for each of 128
//! prompts of 7.
//!
//! `RAYON_NUM_THREADS=1 taskset -c 0 cargo run --release -p vintage-model --example tiny_step`,
//! after `--` a part of a name to time that alone.
#![expect(clippy::print_stdout, reason = "its output is the point")]

use std::time::Instant;

use vintage_model::{Decoder, Gradients, ModelConfig, Packed, ParamSet, SamplingParams, Targets};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), vintage_model::Error> {
    let config = ModelConfig::tiny(13);
    let params = ParamSet::init(&config, 1)?;
    println!("{} parameters", params.parameter_count());
    let decoder = Decoder::new(config, params)?;
    let token = |row: usize, t: usize| (row * 31 + t * 7 + row * t) as u32 % 13;
    let rows: Vec<Vec<u32>> = (0..128)
        .map(|row| (0..12).map(|t| token(row, t)).collect())
        .collect();
    let packed = Packed::new(&rows);
    let mut targets = Targets::default();
    for row in 0..128 {
        for t in 6..12 {
            targets.position.push(row * 12 + t);
            targets.token.push(token(row as usize, t as usize + 1));
            targets.temperature.push(1.0);
        }
    }
    let weights: Vec<f32> = (0..targets.len())
        .map(|i| (i % 5) as f32 * 1e-3 - 2e-3)
        .collect();
    let mut grads = Gradients::zeros_like(decoder.params())?;
    time("score", || decoder.score(&packed, &targets).map(drop))?;
    time("forward", || decoder.forward(&packed, &targets).map(drop))?;
    time("forward + backward", || {
        let (_, tape) = decoder.forward(&packed, &targets)?;
        decoder.backward(tape, &weights, &mut grads)
    })?;
    let sampling = SamplingParams {
        max_tokens: 6,
        ..SamplingParams::default()
    };
    let seeds: Vec<u64> = (0..128).collect();
    let different: Vec<Vec<u32>> = rows.iter().map(|row| row[..7].to_vec()).collect();
    time("generate, 128 different prompts", || {
        decoder.generate(&different, &sampling, &seeds).map(drop)
    })?;
    let grouped: Vec<Vec<u32>> = (0..128).map(|row| different[row / 8].clone()).collect();
    time("generate, 16 prompts x 8", || {
        decoder.generate(&grouped, &sampling, &seeds).map(drop)
    })
}

fn time(
    name: &str,
    mut run: impl FnMut() -> Result<(), vintage_model::Error>,
) -> Result<(), vintage_model::Error> {
    if std::env::args()
        .nth(1)
        .is_some_and(|filter| !name.contains(&filter))
    {
        return Ok(());
    }
    let mut times = Vec::new();
    for _ in 0..300 {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{name:40} best {:6.2} ms, median {:6.2} ms",
        times[0], times[100]
    );
    Ok(())
}

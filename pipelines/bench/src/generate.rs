//! Benchmark of sampling (`vintage bench generate`): this program's sampler and transformers'
//! `generate` on the same folder, prompts, lengths and threads, in turns.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use vintage_model::{Ask, Decoder, DecoderConfig, ModelFolder, ParamSet, SamplingParams};

use crate::{
    error::{Error, Result, because},
    median::median,
    rival::{Ratio, Rival, Rounds, Took, Versions},
    used::{load_average, processor},
};

/// Script that samples with transformers on request.
const SCRIPT: &str = include_str!("generate/rival.py");

/// Model, sizes and rival of a comparison.
#[derive(Debug, Clone)]
pub struct GeneratePlan {
    /// Model folder; `None` makes one of the tiny model with random weights.
    pub model: Option<PathBuf>,
    /// Numbers of completions that are sampled together.
    pub batches: Vec<usize>,
    /// Number of completions of each prompt.
    pub group: usize,
    /// Length of a prompt, in tokens.
    pub prompt: usize,
    /// Length of a completion, in tokens.
    pub completion: usize,
    /// Number of batches' worth of completions of different lengths, from 1 token to `completion`,
    /// that each program samples; `None` samples one batch of one length.
    pub ragged: Option<usize>,
    /// Number of compute threads.
    pub threads: usize,
    /// Number of times each program samples a batch, after one that is not timed.
    pub rounds: usize,
    /// Python with torch and transformers; `None` measures this program alone.
    pub python: Option<PathBuf>,
}

/// Seconds of one program for one batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timed {
    /// Seconds of the rounds.
    #[serde(flatten)]
    pub rounds: Rounds,
    /// Sampled tokens per second of the median.
    pub tokens_per_second: f64,
}

/// Measurements of one batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// Completions sampled together.
    pub batch: usize,
    /// Different prompts among them.
    pub prompts: usize,
    /// Times of this program.
    pub vintage: Timed,
    /// Times of transformers in Python, if they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transformers: Option<Timed>,
    /// Seconds of transformers divided by this program's.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerateReport {
    /// Version of this program.
    pub version: String,
    /// Versions of the rival, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<Versions>,
    /// Name of the processor.
    pub processor: String,
    /// Processes that ran or waited to run, over the last minute, before and after the measurement.
    pub load: (f64, f64),
    /// Compute threads of each program.
    pub threads: usize,
    /// Number of values in all parameters.
    pub parameters: usize,
    /// Bytes of weights that one step reads: every parameter once, except an embedding that is only
    /// looked up.
    pub step_bytes: usize,
    /// Length of a prompt, in tokens.
    pub prompt: usize,
    /// Length of a completion, in tokens; the longest if they differ.
    pub completion: usize,
    /// Batches' worth of completions of different lengths that were sampled, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ragged: Option<usize>,
    /// Completions of each prompt.
    pub group: usize,
    /// Rounds of each program.
    pub rounds: usize,
    /// Measurements, by batch.
    pub batches: Vec<Batch>,
}

/// Measures every batch, and tells `say` about each round.
///
/// # Errors
/// A size of 0, a model that cannot be opened, or a Python that cannot sample.
pub fn compare(plan: &GeneratePlan, say: &dyn Fn(&str)) -> Result<GenerateReport> {
    let sizes = [
        plan.group,
        plan.prompt,
        plan.completion,
        plan.threads,
        plan.rounds,
    ];
    if sizes.contains(&0)
        || plan.ragged == Some(0)
        || plan.batches.contains(&0)
        || plan.batches.is_empty()
    {
        return Err(Error::Option(
            "batch, group, prompt, completion, ragged, threads and rounds must be at least 1"
                .to_owned(),
        ));
    }
    let load_before = load_average();
    let made = tempfile::tempdir().map_err(because("cannot make a folder"))?;
    let (decoder, folder) = match &plan.model {
        Some(folder) => {
            let opened = ModelFolder::open(folder)?;
            (
                Decoder::new(opened.config, opened.params)?,
                folder.as_path(),
            )
        }
        None => (tiny(made.path())?, made.path()),
    };
    let context = decoder.config().max_position_embeddings;
    if plan.prompt + plan.completion > context {
        return Err(Error::Option(format!(
            "prompt and completion of {} tokens do not fit in the model's context of {context}",
            plan.prompt + plan.completion
        )));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(plan.threads)
        .build()
        .map_err(because("cannot start the compute threads"))?;
    let mut rival = match &plan.python {
        Some(python) => Some(Rival::start(python, SCRIPT, folder, plan.threads, &[])?),
        None => None,
    };
    let measured = plan.batches.iter().map(|&batch| {
        let rounds = rounds(plan, batch, &decoder, &pool, rival.as_mut(), say)?;
        Ok(summary(plan, batch, &rounds))
    });
    let batches = measured.collect::<Result<Vec<_>>>()?;
    Ok(GenerateReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rival: rival.as_ref().map(Rival::versions),
        processor: processor(),
        load: (load_before, load_average()),
        threads: plan.threads,
        parameters: decoder.params().parameter_count(),
        step_bytes: step_bytes(&decoder),
        prompt: plan.prompt,
        completion: plan.completion,
        ragged: plan.ragged,
        group: plan.group,
        rounds: plan.rounds,
        batches,
    })
}

/// Seconds of one round.
struct Round {
    ours: Took,
    theirs: Option<Took>,
    /// Tokens that were asked for.
    tokens: usize,
}

/// Request to sample: prompts of one length, and the length of every completion.
#[derive(Serialize)]
struct Asked<'a> {
    prompts: Vec<&'a [u32]>,
    completion: usize,
}

/// Completion to sample.
struct Row {
    prompt: Vec<u32>,
    length: usize,
}

/// Samples all rows, `places` at a time: what is finished makes room. Returns their lengths.
fn sampled(decoder: &Decoder, rows: &[Row], places: usize) -> Result<Vec<usize>> {
    let ask = |(number, row): (usize, &Row)| {
        let params = SamplingParams {
            max_tokens: row.length,
            ..SamplingParams::default()
        };
        let ask = Ask {
            prompt: row.prompt.clone(),
            params: Arc::new(params),
            seed: number as u64,
        };
        (number, ask)
    };
    let mut waiting = rows.iter().enumerate().map(ask);
    let mut lengths = vec![0; rows.len()];
    let mut batch = vintage_model::Batch::new(decoder)?;
    loop {
        let more: Vec<_> = waiting.by_ref().take(places - batch.len()).collect();
        batch.admit(more)?;
        for (number, completion) in batch.finished() {
            lengths[number] = completion.tokens.len();
        }
        if batch.is_empty() && waiting.len() == 0 {
            return Ok(lengths);
        }
        batch.step()?;
    }
}

/// Has transformers sample all rows, `places` at a time. A call of `generate` ends with its longest
/// row: one that ends before keeps its place.
fn theirs(rival: &mut Rival, rows: &[Row], places: usize) -> Result<Took> {
    let mut all = Took::default();
    for rows in rows.chunks(places) {
        let asked = Asked {
            prompts: rows.iter().map(|row| &*row.prompt).collect(),
            completion: rows.iter().map(|row| row.length).max().unwrap_or(1),
        };
        let taken = rival.time(&asked)?;
        all.seconds += taken.seconds;
        all.cpu_seconds += taken.cpu_seconds;
    }
    Ok(all)
}

/// Samples a batch in every round, once by each program; the one that begins changes by round.
fn rounds(
    plan: &GeneratePlan,
    batch: usize,
    decoder: &Decoder,
    pool: &rayon::ThreadPool,
    mut rival: Option<&mut Rival>,
    say: &dyn Fn(&str),
) -> Result<Vec<Round>> {
    let mut rounds = Vec::with_capacity(plan.rounds);
    for round in 0..=plan.rounds {
        let rows = rows(plan, batch, decoder.config().vocab_size, round as u64);
        let mut ask = || match &mut rival {
            Some(rival) => theirs(rival, &rows, batch).map(Some),
            None => Ok(None),
        };
        let early = if round % 2 == 1 { ask()? } else { None };
        let sample = || pool.install(|| sampled(decoder, &rows, batch));
        let (lengths, ours) = Took::of(sample)?;
        let asked: Vec<_> = rows.iter().map(|row| row.length).collect();
        if lengths? != asked {
            return Err(Error::Failed(
                "completions are not as long as they were asked to be".to_owned(),
            ));
        }
        let theirs = if early.is_none() { ask()? } else { early };
        if round > 0 {
            let shown = theirs.map_or_else(String::new, |theirs| {
                format!(", transformers {:.3} s", theirs.seconds)
            });
            say(&format!(
                "batch {batch}, round {round} of {}: {:.3} s{shown}",
                plan.rounds, ours.seconds
            ));
            rounds.push(Round {
                ours,
                theirs,
                tokens: asked.iter().sum(),
            });
        }
    }
    Ok(rounds)
}

fn summary(plan: &GeneratePlan, batch: usize, rounds: &[Round]) -> Batch {
    let tokens = median(rounds.iter().map(|round| round.tokens as f64));
    let timed = |all: &[Took]| {
        let rounds = Rounds::of(all);
        Timed {
            tokens_per_second: tokens / rounds.seconds,
            rounds,
        }
    };
    let ours: Vec<_> = rounds.iter().map(|round| round.ours).collect();
    let theirs: Vec<_> = rounds.iter().filter_map(|round| round.theirs).collect();
    let compared = !theirs.is_empty();
    Batch {
        batch,
        prompts: (batch * plan.ragged.unwrap_or(1)).div_ceil(plan.group),
        vintage: timed(&ours),
        transformers: compared.then(|| timed(&theirs)),
        ratio: compared.then(|| Ratio::of(&ours, &theirs)),
    }
}

/// Returns rows with random prompts, `group` of each, which differ from round to round.
fn rows(plan: &GeneratePlan, batch: usize, vocab: usize, round: u64) -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(round);
    let count = batch * plan.ragged.unwrap_or(1);
    let different: Vec<Vec<u32>> = (0..count.div_ceil(plan.group))
        .map(|_| {
            (0..plan.prompt)
                .map(|_| rng.random_range(0..vocab as u32))
                .collect()
        })
        .collect();
    (0..count)
        .map(|row| Row {
            prompt: different[row / plan.group].clone(),
            length: match plan.ragged {
                Some(_) => rng.random_range(1..=plan.completion),
                None => plan.completion,
            },
        })
        .collect()
}

/// Writes the tiny model with random weights to `folder`, as transformers reads it.
fn tiny(folder: &Path) -> Result<Decoder> {
    let config = DecoderConfig::tiny(TINY_VOCABULARY);
    let decoder = Decoder::new(config.clone(), ParamSet::init(&config, 1)?)?;
    let write = |name: &str, bytes: Vec<u8>| {
        std::fs::write(folder.join(name), bytes).map_err(because(format!("cannot write {name}")))
    };
    write("config.json", config.to_json().into_bytes())?;
    write("model.safetensors", decoder.to_safetensors()?)?;
    Ok(decoder)
}

/// Vocabulary of the built-in task's tokenizer.
const TINY_VOCABULARY: usize = 13;

fn step_bytes(decoder: &Decoder) -> usize {
    let config = decoder.config();
    let looked_up = if config.tie_word_embeddings {
        0
    } else {
        config.vocab_size * config.hidden_size
    };
    4 * (decoder.params().parameter_count() - looked_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_alone_is_measured_at_every_batch() {
        let plan = GeneratePlan {
            model: None,
            batches: vec![1, 5],
            group: 2,
            prompt: 4,
            completion: 3,
            ragged: None,
            threads: 1,
            rounds: 3,
            python: None,
        };
        let report = compare(&plan, &|_| ()).unwrap();
        let prompts: Vec<_> = report.batches.iter().map(|batch| batch.prompts).collect();
        assert_eq!(prompts, [1, 3]);
        for batch in &report.batches {
            let rounds = &batch.vintage.rounds;
            let (least, most) = rounds.seconds_range;
            assert!(least > 0.0 && least <= rounds.seconds && rounds.seconds <= most);
            assert_eq!((&batch.ratio, &batch.transformers), (&None, &None));
        }
        let ragged = compare(
            &GeneratePlan {
                ragged: Some(3),
                ..plan.clone()
            },
            &|_| (),
        );
        let prompts = ragged
            .unwrap()
            .batches
            .into_iter()
            .map(|batch| batch.prompts);
        assert_eq!(prompts.collect::<Vec<_>>(), [2, 8]);
        let refused = compare(
            &GeneratePlan {
                rounds: 0,
                ..plan.clone()
            },
            &|_| (),
        );
        assert!(refused.unwrap_err().to_string().contains("at least 1"));
        let long = compare(
            &GeneratePlan {
                prompt: 510,
                ..plan
            },
            &|_| (),
        );
        assert!(long.unwrap_err().to_string().contains("context of 512"));
    }
}

//! Comparison of a model and its training with stored results of another implementation.
//!
//! `NAME/` is a Hugging Face folder. `NAME.oracle/` holds what the other implementation computed
//! with it, in float64 rounded to float32:
//!
//! | file | what it holds |
//! |---|---|
//! | `forward.safetensors` | a ragged, right-padded batch: `input_ids`, `attention_mask`, `position_ids`, `logprob_mask` `[B,L]`; `logits` `[B,L,V]`; `logprobs_t<T>` `[B,L]`, where entry t is log p(ids[t] given those before) at temperature T |
//! | `greedy.json` | prompts and the arg-max tokens that follow; stop tokens do not end them |
//! | `tokenizer.json` | texts, their ids with and without special tokens, decoded text, one rendered chat |
//! | `m2po_batch.safetensors` | a batch with `loss_mask`, `behav_logprobs`, `advantages` by row, and the expected log-probs and keep mask |
//! | `m2po.json` | τ, AdamW's settings, the expected loss, norm, counts, and both optimizer logs |
//! | `m2po_grad.safetensors` | the gradient of the loss, before clipping, by parameter |
//! | `adamw_decay_{2d,all}_step<n>.safetensors` | parameters after n steps on that batch |
//!
//! Parts that a folder lacks are left out of the comparison and named in its result.
//!
//! ```
//! use vintage_parity::compare;
//! use vintage_settings::Device;
//!
//! // A folder of `NAME/` and `NAME.oracle/` gives a report; this one is empty.
//! let folder = tempfile::tempdir()?;
//! let refused = compare(folder.path(), Device::Cpu).unwrap_err();
//! assert!(refused.to_string().contains("no folder in it has a config.json"));
//! # Ok::<(), std::io::Error>(())
//! ```

mod batch;
mod difference;
mod error;
mod expected;
mod forward;
mod machine;
mod oracle;
mod report;
mod steps;
mod task;
mod text;
mod tolerance;
mod training;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use vintage_model::{Decoder, ModelFolder};
use vintage_settings::Device;

use self::machine::host::HostMachine;
use self::machine::{Backend, Machine};
use self::oracle::Oracle;
use self::report::ParityReport;

pub use self::error::{Error, Result};
pub use self::report::{Measure, Quantity};

/// Comparison of the models of a folder.
#[derive(Debug, Clone, Serialize)]
pub struct Parity {
    /// True if every compared quantity of every model is within its tolerance, and every oracle has
    /// its model.
    pub holds: bool,
    /// True if nothing was left out: every model has an oracle, and every oracle has its model and
    /// all its parts.
    pub whole: bool,
    /// Compared models, sorted by name.
    pub models: Vec<Compared>,
    /// Names of the model folders without an oracle beside them, which were not compared.
    pub without_oracle: Vec<String>,
    /// Names of the oracles without a model beside them; each is a failure.
    pub without_model: Vec<String>,
}

/// Comparison of one model.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Name of the model's folder.
    pub name: String,
    /// Folder of the oracle.
    pub oracle: PathBuf,
    /// `model_type` of the model's `config.json`, once that was read.
    pub model_type: Option<&'static str>,
    /// Number of values in all parameters.
    pub parameters: usize,
    /// True if the comparison ran to its end and every quantity is within its tolerance.
    pub holds: bool,
    /// Quantities that were compared.
    pub quantities: Vec<Quantity>,
    /// Parts that the oracle lacks.
    pub absent: Vec<String>,
    /// Reason for which the comparison ended early, if it did.
    pub error: Option<String>,
    /// Duration of the comparison in seconds.
    pub seconds: f64,
}

/// Compares every model of `folder` that has its oracle beside it, or only `folder` itself if it is
/// a model, as computed on `device`.
///
/// # Errors
/// A folder in which there is nothing to compare. What goes wrong with one model is in its own
/// `error`. A device that cannot be had.
pub fn compare(folder: &Path, device: Device) -> Result<Parity> {
    let backend = Backend::open(device)?;
    let oracle::Found {
        pairs,
        without_oracle,
        without_model,
    } = oracle::find(folder)?;
    let compared = pairs.iter().map(|pair| compare_one(pair, &backend));
    let models: Vec<_> = compared.collect();
    Ok(Parity {
        holds: models.iter().all(|model| model.holds) && without_model.is_empty(),
        whole: models.iter().all(|model| model.absent.is_empty())
            && without_oracle.is_empty()
            && without_model.is_empty(),
        models,
        without_oracle,
        without_model,
    })
}

fn compare_one(pair: &oracle::Pair, backend: &Backend) -> Compared {
    let started = Instant::now();
    let mut report = ParityReport::new(pair.measured.clone());
    let mut compared = Compared {
        name: pair.name.clone(),
        oracle: pair.oracle.folder().to_owned(),
        model_type: None,
        parameters: 0,
        holds: false,
        quantities: Vec::new(),
        absent: Vec::new(),
        error: None,
        seconds: 0.0,
    };
    let outcome = ModelFolder::open(&pair.folder)
        .map_err(Error::from)
        .and_then(|folder| {
            compared.model_type = Some(folder.config.model_type.as_str());
            compared.parameters = folder.params.parameter_count();
            quantities(&pair.oracle, &folder, backend, &mut report)
        });
    compared.error = outcome.err().map(|error| error.to_string());
    compared.quantities = report.quantities;
    compared.absent = report.absent;
    compared.holds = compared.error.is_none()
        && !compared.quantities.is_empty()
        && compared.quantities.iter().all(|quantity| quantity.holds);
    compared.seconds = started.elapsed().as_secs_f64();
    compared
}

fn quantities(
    oracle: &Oracle,
    folder: &ModelFolder,
    backend: &Backend,
    report: &mut ParityReport,
) -> Result<()> {
    text::compare(oracle, folder, report)?;
    let decoder = Decoder::new(folder.config.clone(), folder.params.clone())?;
    match backend {
        Backend::Cpu => numbers(oracle, &HostMachine::new(decoder), report),
        #[cfg(any(test, feature = "cuda"))]
        Backend::Device(device) => {
            let machine = machine::device::DeviceMachine::new(decoder, device)?;
            numbers(oracle, &machine, report)
        }
    }
}

fn numbers(oracle: &Oracle, machine: &impl Machine, report: &mut ParityReport) -> Result<()> {
    forward::compare(oracle, machine, report)?;
    training::compare(oracle, machine, report)
}

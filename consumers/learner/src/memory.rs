//! What a learner needs of memory, from its settings and the model's shape.

use serde::Serialize;
use vintage_control::Training;
use vintage_model::{BatchShape, Footprint, ModelConfig};
use vintage_settings::Device;

use crate::update::compute;

/// What the allocator keeps of what was freed a moment ago is up to twice this part of what is
/// held: 5 to 19 % in learners of 20 M parameters.
const KEPT: u64 = 10;

/// Bytes under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Of what.
    pub name: &'static str,
    /// How many.
    pub bytes: u64,
}

/// A learner's memory beside that of an idle process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Its parts. Not all are there at once.
    pub items: Vec<Amount>,
    /// How much of them is there at once, by what the learner is doing.
    pub phases: Vec<Amount>,
    /// The largest of the phases.
    pub peak_bytes: u64,
}

impl Memory {
    /// Of a learner that trains `config` as `training` says, in micro-batches of at most `batch`.
    /// Where updates are computed on a card, this is what is left for the host; the card's own
    /// memory is not predicted.
    pub fn predict(
        config: &ModelConfig,
        training: &Training,
        batch: BatchShape,
        device: Device,
    ) -> Self {
        let lora = training.lora.as_ref();
        let needs = Footprint::of(config, lora, compute(training), batch);
        let (parameters, trained) = (needs.parameters as u64, needs.trained as u64);
        let adapters = if lora.is_some() { trained } else { 0 };
        let passing = (needs.activations + needs.head_blocks + needs.rounded) as u64;
        let (model, moments) = (parameters + adapters, 2 * trained);
        let amount = |name, bytes| Amount { name, bytes };
        let resident = |name, bytes: u64| amount(name, bytes + bytes / KEPT);
        if device != Device::Cpu {
            let phases = vec![
                resident("load", 2 * parameters + adapters),
                // What was trained comes back beside what it replaces.
                resident("update", model + trained),
                resident("publish", model + parameters),
                // The moments come back, and become a file.
                resident("checkpoint", model + moments + moments.max(adapters)),
            ];
            let items = vec![
                amount("master_weights", parameters),
                amount("adapters", adapters),
                amount("moments", moments),
                amount("weights_file", parameters),
                amount("moments_file", moments),
            ];
            return Self::of(items, phases);
        }
        let phases = vec![
            // The file's bytes beside what is made of them.
            resident("load", 2 * parameters + adapters),
            resident("update", model + trained + moments + passing),
            resident("publish", model + moments + parameters),
            resident("checkpoint", model + moments + moments.max(adapters)),
        ];
        let items = vec![
            amount("master_weights", parameters),
            amount("adapters", adapters),
            amount("moments", moments),
            amount("gradients", trained),
            amount("activations", needs.activations as u64),
            amount("head_blocks", needs.head_blocks as u64),
            amount("bf16_copies", needs.rounded as u64),
            amount("weights_file", parameters),
            amount("moments_file", moments),
        ];
        Self::of(items, phases)
    }

    fn of(items: Vec<Amount>, phases: Vec<Amount>) -> Self {
        let peak_bytes = phases.iter().map(|phase| phase.bytes).max().unwrap_or(0);
        Self {
            items,
            phases,
            peak_bytes,
        }
    }
}

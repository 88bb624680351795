//! Prediction of the memory that a learner needs, from its settings and the model's shape.

use serde::Serialize;
use vintage_control::{Precision, Training};
use vintage_model::{BatchShape, DecoderConfig, Footprint};
use vintage_settings::{Device, PublishConfig};

use crate::engine::compute;

/// Divisor of the allowance for memory that the allocator keeps after it was freed: one tenth of
/// the memory held. Up to twice as much was measured: 5 to 19 % in learners of 20 M parameters.
const ALLOCATOR_SLACK: u64 = 10;

/// Number of bytes with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Name of the item or phase.
    pub name: &'static str,
    /// Number of bytes.
    pub bytes: u64,
}

/// Memory of a learner, beyond that of an idle process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Items that need memory. Not all of them are held at the same time.
    pub items: Vec<MemoryUse>,
    /// Memory held at the same time in each phase: `load`, `update`, `publish`, `checkpoint`.
    pub phases: Vec<MemoryUse>,
    /// Memory of the largest phase, in bytes.
    pub peak_bytes: u64,
}

impl Memory {
    /// Predicts the memory of a learner that trains `config` as `training` says, in micro-batches
    /// of at most `batch`, publishes versions as `publish` says, and has a penalty on the distance from
    /// earlier versions if `penalized`. If updates are computed on a GPU, the result is
    /// the host's memory; the GPU's own memory is not predicted.
    pub fn predict(
        config: &DecoderConfig,
        training: &Training,
        batch: BatchShape,
        device: Device,
        publish: &PublishConfig,
        penalized: bool,
    ) -> Self {
        let lora = training.lora.as_ref();
        let needs = Footprint::of(config, lora, compute(training), batch);
        let (parameters, trained) = (needs.parameters as u64, needs.trained as u64);
        let adapters = if lora.is_some() { trained } else { 0 };
        let passing = (needs.activations + needs.head_blocks + needs.rounded) as u64;
        let moments = 2 * trained;
        let rounded = training.publish != Precision::F32;
        let file = if rounded { parameters / 2 } else { parameters };
        // The version published last, on which the next one is a delta. While that is made, it takes
        // at most as much again.
        let base = if publish.full_every > 1 { file } else { 0 };
        // Version 0 and what the adapters make of it, when the first are published.
        let merged = if publish.adapters && lora.is_some() {
            parameters + file
        } else {
            0
        };
        let masters = if rounded && lora.is_none() {
            parameters
        } else {
            0
        };
        // Reference, version before, and the version that becomes that one.
        let anchors = if penalized { 3 * parameters } else { 0 };
        let model = parameters + adapters + base + anchors;
        // The version before is published while an update is computed.
        let publishing = file + base.max(merged);
        let amount = |name, bytes| MemoryUse { name, bytes };
        let resident = |name, bytes: u64| amount(name, bytes + bytes / ALLOCATOR_SLACK);
        if device != Device::Cpu {
            let phases = vec![
                resident("load", 2 * parameters + adapters),
                // The trained parameters come back beside the ones that they replace.
                resident("update", model + trained + publishing),
                resident("publish", model + publishing),
                // The moments come back and are serialised.
                resident(
                    "checkpoint",
                    model + moments + (moments + masters).max(adapters),
                ),
            ];
            let items = vec![
                amount("master_weights", parameters),
                amount("adapters", adapters),
                amount("moments", moments),
                amount("weights_file", file),
                amount("moments_file", moments),
                amount("masters_file", masters),
                amount("delta_base", base),
                amount("penalty_versions", anchors),
            ];
            return Self::of(items, phases);
        }
        let phases = vec![
            // The file's bytes beside the parameters made of them.
            resident("load", 2 * parameters + adapters + base),
            resident("update", model + trained + moments + passing + publishing),
            resident("publish", model + moments + publishing),
            resident(
                "checkpoint",
                model + moments + (moments + masters).max(adapters),
            ),
        ];
        let items = vec![
            amount("master_weights", parameters),
            amount("adapters", adapters),
            amount("moments", moments),
            amount("gradients", trained),
            amount("activations", needs.activations as u64),
            amount("head_blocks", needs.head_blocks as u64),
            amount("bf16_copies", needs.rounded as u64),
            amount("weights_file", file),
            amount("moments_file", moments),
            amount("masters_file", masters),
            amount("delta_base", base),
            amount("penalty_versions", anchors),
        ];
        Self::of(items, phases)
    }

    fn of(mut items: Vec<MemoryUse>, phases: Vec<MemoryUse>) -> Self {
        let rare = ["masters_file", "delta_base", "penalty_versions"];
        items.retain(|item| item.bytes > 0 || !rare.contains(&item.name));
        let peak_bytes = phases.iter().map(|phase| phase.bytes).max().unwrap_or(0);
        Self {
            items,
            phases,
            peak_bytes,
        }
    }
}

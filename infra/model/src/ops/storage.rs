//! Access to candle's CPU tensors as slices.

use std::cell::Cell;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use crate::error::{Error, Result};

/// Values of a tensor, row-major, borrowed. Dereferences to `[f32]`.
pub struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // Unreachable: `values` accepts only f32 storage on the CPU.
            _ => &[],
        }
    }
}

impl std::fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Borrows the values of `tensor`, which must be contiguous f32 on the CPU.
///
/// # Errors
/// A tensor of another dtype, layout or device.
pub fn values(tensor: &Tensor) -> Result<Values<'_>> {
    let refuse = |problem: &str| Error::Tensor {
        op: "borrow",
        source: candle_core::Error::Msg(format!("{problem}; kernels take contiguous f32 on cpu")),
    };
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| refuse("the tensor is not contiguous"))?;
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(Values {
            storage,
            range: start..end,
        }),
        _ => Err(refuse("the tensor is of another dtype or device")),
    }
}

/// Creates a CPU tensor that owns `values`.
pub(crate) fn tensor(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(Error::tensor("from_vec"))
}

/// Returns a tensor of the same values that shares no memory with `tensor`.
pub(crate) fn deep_copy(tensor: &Tensor) -> Tensor {
    // Only device memory can run out here, and candle has no fallible copy on the CPU either.
    tensor
        .copy()
        .unwrap_or_else(|error| panic!("copying a tensor: {error}"))
}

struct InPlace<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in_place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            return Err(candle_core::Error::Msg(
                "kernels take contiguous f32".to_owned(),
            ));
        };
        if let Some(change) = self.0.take() {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}

/// Changes the values of `tensor` in place.
pub(crate) fn with_mut(tensor: &mut Tensor, change: impl FnOnce(&mut [f32])) -> Result<()> {
    tensor
        .inplace_op1(&InPlace(Cell::new(Some(change))))
        .map_err(Error::tensor("in_place"))
}

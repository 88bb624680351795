//! Search for the value at which a budget is exhausted when values are taken in ascending order, in
//! linear time.

use crate::exact::Grid;

/// Boundary of the dropped tokens: all tokens above `value`, and of the tokens equal to `value` the
/// `dropped_ties` ones with the lowest indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    pub(crate) value: f64,
    pub(crate) dropped_ties: usize,
}

const BUCKET_BITS: u32 = 11;

/// Finds the boundary of the longest ascending prefix of `values` whose running sum of `v - tau` is
/// at most `room` (in steps of the grid). All values must be above `tau`. Returns `None` if every
/// value is kept. The order of `values` is unspecified afterwards.
///
/// The function is a radix selection on the bit pattern, which orders non-negative floats like
/// their values. A histogram of exact sums over 2^11 buckets of the range finds the bucket in which
/// the room is exhausted, and the next round reads only that bucket. Every round shortens the range
/// by 11 bits of at most 64, so the cost is O(c) for c values, whatever they are.
pub(crate) fn select(values: &mut Vec<f64>, room: i128, grid: &Grid) -> Option<Cut> {
    let tau = grid.tau_steps();
    // A single value above the room is dropped in any case; the limit keeps sums of such values
    // from overflowing.
    let ceiling = room.saturating_add(1);
    let excess = |value: f64| grid.steps(value).saturating_sub(tau).min(ceiling);
    let mut room = room;
    let mut summed = vec![0_i128; 1 << BUCKET_BITS];
    loop {
        let (low, high) = bit_range(values)?;
        let range_bits = u64::BITS - (high - low).leading_zeros();
        if range_bits == 0 {
            let each = excess(f64::from_bits(low));
            let kept = usize::try_from(room / each).unwrap_or(usize::MAX);
            let dropped_ties = values.len().saturating_sub(kept);
            return (dropped_ties > 0).then_some(Cut {
                value: f64::from_bits(low),
                dropped_ties,
            });
        }
        let shift = range_bits.saturating_sub(BUCKET_BITS);
        let bucket_of = |value: &f64| ((value.to_bits() - low) >> shift) as usize;
        summed.fill(0);
        for value in values.iter() {
            let bucket = bucket_of(value);
            summed[bucket] = summed[bucket].saturating_add(excess(*value));
        }
        let mut full = None;
        for (bucket, &sum) in summed.iter().enumerate() {
            if sum > room {
                full = Some(bucket);
                break;
            }
            room -= sum;
        }
        let full = full?;
        values.retain(|value| bucket_of(value) == full);
    }
}

fn bit_range(values: &[f64]) -> Option<(u64, u64)> {
    let first = values.first()?.to_bits();
    Some(values.iter().fold((first, first), |(low, high), value| {
        let bits = value.to_bits();
        (low.min(bits), high.max(bits))
    }))
}

//! Bounds of the values in a row group, and ranges that are compared with them.

use std::ops::RangeInclusive;

use crate::{
    columns::{OFFSET, TIMESTAMP},
    file::Opened,
};

/// Ranges of values in a row group, from its statistics; `None` where there are none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    pub(crate) offsets: Option<(i64, i64)>,
    pub(crate) timestamps: Option<(i64, i64)>,
    pub(crate) versions: Option<(i64, i64)>,
    pub(crate) rewards: Option<(f64, f64)>,
}

impl Bounds {
    pub(crate) fn of(file: &Opened, group: usize) -> Self {
        let reward = file.float_range(group, "reward");
        Self {
            offsets: file.range(group, OFFSET, OFFSET),
            timestamps: file.range(group, TIMESTAMP, TIMESTAMP),
            versions: file.range(group, "policy_spans", "version"),
            rewards: reward.map(|(least, most)| (f64::from(least), f64::from(most))),
        }
    }
}

/// Returns the smallest range that holds all of them; `None` if one is not known.
pub(crate) fn hull<T: PartialOrd + Copy>(
    ranges: impl Iterator<Item = Option<(T, T)>>,
) -> Option<(T, T)> {
    let mut hull: Option<(T, T)> = None;
    for range in ranges {
        let (least, most) = range?;
        hull = Some(hull.map_or((least, most), |(low, high)| {
            (
                if least < low { least } else { low },
                if most > high { most } else { high },
            )
        }));
    }
    hull
}

/// Returns true if a range has a value between `least` and `most`.
pub(crate) fn overlap<T: PartialOrd>(wanted: &RangeInclusive<T>, (least, most): (T, T)) -> bool {
    least <= *wanted.end() && most >= *wanted.start()
}

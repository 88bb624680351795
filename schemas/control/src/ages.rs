use serde::{Deserialize, Serialize};

/// Ages of the groups of a batch, in updates. Every batch of a run has the same ages, but for groups that
/// replace refused or failed ones: those are of the oldest age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ages {
    /// One age.
    #[default]
    Same,
    /// Ages up to the bound, all alike.
    Uniform,
    /// Most groups young and a few old, as stragglers of a fleet are: the logarithm of age + 1 is uniform. With a
    /// bound of 256, half of the groups are younger than 15, and their mean is 45.
    Tail,
}

impl Ages {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Same, Self::Uniform, Self::Tail];

    /// Returns the name that settings have.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Uniform => "uniform",
            Self::Tail => "tail",
        }
    }

    /// Returns the ages of a batch of `groups` groups, the oldest first: the middles of as many equal
    /// parts of the distribution, rounded.
    pub fn of_batch(self, bound: u64, groups: u64) -> Vec<u64> {
        let age = |place: u64| {
            let younger = 1.0 - (place as f64 + 0.5) / groups as f64;
            match self {
                Self::Same => bound,
                Self::Uniform => (bound as f64 * younger).round() as u64,
                Self::Tail => ((bound as f64 + 1.0).powf(younger) - 1.0).round() as u64,
            }
        };
        (0..groups).map(age).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Ages;

    #[test]
    fn a_batch_has_the_middles_of_equal_parts_and_the_oldest_first() {
        assert_eq!(Ages::Same.of_batch(256, 3), [256; 3]);
        assert_eq!(Ages::Uniform.of_batch(256, 4), [224, 160, 96, 32]);
        assert_eq!(Ages::Tail.of_batch(256, 4), [127, 31, 7, 1]);
        for ages in Ages::ALL {
            assert_eq!(ages.of_batch(0, 5), [0; 5], "{ages:?}");
            assert!(
                ages.of_batch(512, 300)
                    .is_sorted_by(|one, next| one >= next)
            );
        }
    }

    #[test]
    fn half_of_a_tail_is_young_and_its_mean_is_not() {
        let ages = Ages::Tail.of_batch(256, 1000);
        assert_eq!(ages[500], 15);
        let mean = ages.iter().sum::<u64>() / 1000;
        assert_eq!(mean, 45);
    }
}

//! Levels for one guess of the optimum.

use serde::{Deserialize, Serialize};

use super::Depths;
use crate::{
    draw::Draw,
    ladder,
    live::{Handle, LiveSet},
    objective::Objective,
    oracle::{Oracle, Set},
};

/// Settings that all instances share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    epsilon: f64,
    eager: bool,
    k: usize,
    seed: u64,
    /// Lower ends of the buckets, as multiples of the threshold.
    ends: Vec<f64>,
}

impl Terms {
    pub(crate) fn new(epsilon: f64, eager: bool, k: usize, seed: u64) -> Self {
        let base = 1.0 + epsilon;
        // Gains are from τ to g = 2kτ.
        let last = ladder::ceil(base, 2.0 * k as f64);
        Self {
            epsilon,
            eager,
            k,
            seed,
            ends: (0..=last)
                .map(|bucket| ladder::power(base, bucket))
                .collect(),
        }
    }

    pub(crate) fn base(&self) -> f64 {
        1.0 + self.epsilon
    }

    pub(crate) fn double_k(&self) -> f64 {
        2.0 * self.k as f64
    }

    /// Returns the threshold τ of a guess.
    pub(crate) fn threshold(&self, exponent: i64) -> f64 {
        ladder::power(self.base(), exponent) / self.double_k()
    }

    /// Returns the bucket of a gain, which is at least the threshold.
    fn bucket(&self, gain: f64, threshold: f64) -> usize {
        let ends = self.ends.partition_point(|end| threshold * end <= gain);
        ends.saturating_sub(1)
    }

    /// Returns the number of draws that tell a share to within about ε, among `elements`.
    fn draws(&self, elements: usize) -> usize {
        // ln n, by whole powers of two.
        let log = f64::from(elements.max(1).ilog2() + 1) * std::f64::consts::LN_2;
        (log / (self.epsilon * self.epsilon)).ceil() as usize
    }
}

/// One level: R_i, the bucket B_i and the sample S_i.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
struct Level<O: Objective> {
    /// G_{i−1}, by which the elements of this level gain at least τ.
    before: Set<O>,
    /// |R_i| when the level was built.
    built: u64,
    /// |R_i| now.
    live: u64,
    /// B_i as it was built; sorted.
    bucket: Vec<Handle>,
    /// Number of elements deleted from B_i.
    bucket_lost: u64,
    /// S_i as it was built.
    sample: Vec<Handle>,
    /// Number of elements deleted from S_i.
    sample_lost: u64,
    /// Elements of R_i that are neither in S_i nor in R_{i+1}, and some that were deleted.
    rest: Vec<Handle>,
}

/// Levels of one guess.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Instance<O: Objective> {
    exponent: i64,
    threshold: f64,
    levels: Vec<Level<O>>,
    /// Union of all samples, deleted members included.
    union: Set<O>,
    /// Number of times that levels were built, which names their draws.
    builds: u64,
}

impl<O: Objective> Instance<O> {
    pub(crate) fn new(exponent: i64, terms: &Terms) -> Self {
        Self {
            exponent,
            threshold: terms.threshold(exponent),
            levels: Vec::new(),
            union: Set::default(),
            builds: 0,
        }
    }

    /// Returns true if no element is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.first().is_none_or(|level| level.live == 0)
    }

    /// Returns the members of all samples, deleted ones included.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Handle> {
        self.levels.iter().flat_map(|level| &level.sample)
    }

    /// Returns the live members of the samples.
    pub(crate) fn members(&self, live: &LiveSet<O::Features>) -> Vec<Handle> {
        self.samples()
            .copied()
            .filter(|handle| live.get(*handle).is_some())
            .collect()
    }

    /// Returns the value of the live members.
    pub(crate) fn value(
        &self,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        members: &[Handle],
    ) -> f64 {
        if members.len() == self.union.size {
            return self.union.value;
        }
        oracle.set(live, members).value
    }

    /// Takes an element whose value alone is at least the threshold.
    pub(crate) fn insert(
        &mut self,
        terms: &Terms,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        depths: &mut Depths,
        handle: Handle,
    ) {
        let depth = self.depth(terms, oracle, live, handle);
        let grown = self.levels.iter_mut().take(depth + 1).position(|level| {
            level.live += 1;
            2 * level.live >= 3 * level.built
        });
        if let Some(level) = grown {
            self.build(level, Some(handle), terms, oracle, live, depths);
        } else if let Some(level) = self.levels.get_mut(depth) {
            level.rest.push(handle);
            depths.set(handle, self.exponent, depth);
        } else {
            self.build(depth, Some(handle), terms, oracle, live, depths);
        }
    }

    /// Returns the deepest level that an element reaches, counted from 0. It is the number of
    /// levels if the element gains the threshold even by the union of all samples and there is room.
    fn depth(
        &self,
        terms: &Terms,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        handle: Handle,
    ) -> usize {
        let Some(element) = live.get(handle) else {
            return 0;
        };
        let full = self.union.size >= terms.k;
        // The element reaches `low`, but not `high`.
        let mut low = 0;
        let mut high = self.levels.len() + usize::from(!full);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let before = self.levels.get(middle).map(|level| &level.before);
            if oracle.gain(before.unwrap_or(&self.union), element) >= self.threshold {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Lets go of an element that is no longer live.
    pub(crate) fn delete(
        &mut self,
        terms: &Terms,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        depths: &mut Depths,
        handle: Handle,
    ) {
        let depth = depths.get(handle, self.exponent);
        let mut worn = None;
        for (index, level) in self.levels.iter_mut().take(depth + 1).enumerate() {
            level.live = level.live.saturating_sub(1);
            let mut due = false;
            if level.bucket.binary_search(&handle).is_ok() {
                level.bucket_lost += 1;
                due = level.bucket_lost as f64 >= terms.epsilon * level.bucket.len() as f64;
            }
            if index == depth && level.sample.contains(&handle) {
                level.sample_lost += 1;
                let share = level.sample_lost as f64 / level.sample.len() as f64;
                due |= terms.eager && share > terms.epsilon;
            }
            if due && worn.is_none() {
                worn = Some(index);
            }
        }
        if let Some(level) = worn {
            self.build(level, None, terms, oracle, live, depths);
        }
    }

    /// Builds the levels from one on again, from their elements and one more.
    fn build(
        &mut self,
        from: usize,
        more: Option<Handle>,
        terms: &Terms,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        depths: &mut Depths,
    ) {
        let old = self.levels.split_off(from.min(self.levels.len()));
        let mut set = match old.first() {
            Some(level) => level.before.clone(),
            None => self.union.clone(),
        };
        let handles = old.into_iter().flat_map(|level| [level.sample, level.rest]);
        let mut rest: Vec<_> = handles
            .flatten()
            .chain(more)
            .filter(|handle| live.get(*handle).is_some())
            .collect();
        self.builds += 1;
        let place = [self.exponent.cast_unsigned(), self.builds, 0];
        let mut draw = Draw::new(terms.seed, place);
        while set.size < terms.k {
            let (reaching, left): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .filter_map(|handle| Some((handle, oracle.gain(&set, live.get(handle)?))))
                .partition(|(_, gain)| *gain >= self.threshold);
            self.leave(left.into_iter().map(|(handle, _)| handle), depths);
            if reaching.is_empty() {
                rest = Vec::new();
                break;
            }
            rest = self.peel(reaching, &mut set, terms, oracle, live, &mut draw, depths);
        }
        self.leave(rest.into_iter(), depths);
        self.union = set;
    }

    /// Leaves elements on the last level.
    fn leave(&mut self, handles: impl Iterator<Item = Handle>, depths: &mut Depths) {
        let depth = self.levels.len().saturating_sub(1);
        if let Some(level) = self.levels.last_mut() {
            for handle in handles {
                depths.set(handle, self.exponent, depth);
                level.rest.push(handle);
            }
        }
    }

    /// Adds one level of the elements that reach it, with their gains; returns those that are not
    /// in its sample.
    #[expect(
        clippy::too_many_arguments,
        reason = "parts of one structure, borrowed apart"
    )]
    fn peel(
        &mut self,
        reaching: Vec<(Handle, f64)>,
        set: &mut Set<O>,
        terms: &Terms,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        draw: &mut Draw,
        depths: &mut Depths,
    ) -> Vec<Handle> {
        let mut sizes = vec![0_usize; terms.ends.len()];
        for (_, gain) in &reaching {
            sizes[terms.bucket(*gain, self.threshold)] += 1;
        }
        let largest = (0..sizes.len()).max_by_key(|bucket| (sizes[*bucket], *bucket));
        let largest = largest.unwrap_or_default();
        let in_bucket = |gain: f64| terms.bucket(gain, self.threshold) == largest;
        let mut bucket: Vec<_> = reaching
            .iter()
            .filter(|(_, gain)| in_bucket(*gain))
            .map(|(handle, _)| *handle)
            .collect();
        let most = (terms.k - set.size).min(bucket.len());
        draw.shuffle_front(&mut bucket, most);

        // Draws of the bucket, to tell how many of it still gain as much.
        let wanted = terms.draws(reaching.len());
        let tests: Vec<_> = if bucket.len() <= wanted {
            bucket.clone()
        } else {
            let one = |_| bucket[draw.below(bucket.len())];
            (0..wanted).map(one).collect()
        };
        let end = self.threshold * terms.ends[largest];
        let needed = (1.0 - terms.epsilon) * tests.len() as f64;

        let before = set.clone();
        // The sample has at least `low` elements, fewer than `high`, and `set` holds its first
        // `low − 1`; the gain by the set before the last one of the sample is what is tested.
        let (mut low, mut high) = (1, most + 1);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let mut longer = set.clone();
            extend(&mut longer, &bucket[low - 1..middle - 1], oracle, live);
            let good = tests.iter().filter(|test| {
                let element = live.get(**test);
                element.is_some_and(|element| oracle.gain(&longer, element) >= end)
            });
            if good.count() as f64 >= needed {
                low = middle;
                *set = longer;
            } else {
                high = middle;
            }
        }
        extend(set, &bucket[low - 1..low], oracle, live);

        let sample = bucket[..low].to_vec();
        let mut sampled = sample.clone();
        sampled.sort_unstable();
        bucket.sort_unstable();
        let depth = self.levels.len();
        for handle in &sample {
            depths.set(*handle, self.exponent, depth);
        }
        let size = reaching.len() as u64;
        self.levels.push(Level {
            before,
            built: size,
            live: size,
            bucket,
            bucket_lost: 0,
            sample,
            sample_lost: 0,
            rest: Vec::new(),
        });
        let rest = reaching.into_iter().map(|(handle, _)| handle);
        rest.filter(|handle| sampled.binary_search(handle).is_err())
            .collect()
    }
}

/// Adds elements to a set.
fn extend<O: Objective>(
    set: &mut Set<O>,
    handles: &[Handle],
    oracle: &mut Oracle<O>,
    live: &LiveSet<O::Features>,
) {
    for element in handles.iter().filter_map(|handle| live.get(*handle)) {
        let gain = oracle.gain(set, element);
        oracle.add(set, element, gain);
    }
}

use std::collections::BTreeMap;

use crate::checkpoint::ProducerWindow;

/// Set of numbers stored as ranges. Producers number their groups without gaps, so a million groups
/// take a handful of ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberSet {
    /// First number of each range, mapped to its last. No two ranges are adjacent.
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl NumberSet {
    /// Adds a number; returns true if it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        let below = self.runs.range(..=number).next_back();
        let below = below.map(|(&first, &last)| (first, last));
        if below.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let first = match below {
            Some((first, last)) if last + 1 == number => first,
            _ => number,
        };
        let above = number
            .checked_add(1)
            .and_then(|next| self.runs.remove(&next));
        self.runs.insert(first, above.unwrap_or(number));
        self.len += 1;
        true
    }

    /// Returns true if the set contains the number.
    pub fn contains(&self, number: u64) -> bool {
        let below = self.runs.range(..=number).next_back();
        below.is_some_and(|(_, &last)| last >= number)
    }

    /// Returns how many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if the set has no numbers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the largest number in the set.
    pub fn last(&self) -> Option<u64> {
        self.runs.last_key_value().map(|(_, &last)| last)
    }

    /// Returns the first and last number of each range, ascending.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(&first, &last)| (first, last))
    }

    /// Returns the smallest number at or above `from` that is not in the set.
    pub fn missing_from(&self, from: u64) -> u64 {
        let below = self.runs.range(..=from).next_back();
        match below {
            Some((_, &last)) if last >= from => last.saturating_add(1),
            _ => from,
        }
    }
}

impl FromIterator<u64> for NumberSet {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

/// Ranges must be ascending and neither overlap nor be adjacent.
impl FromIterator<(u64, u64)> for NumberSet {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(runs: I) -> Self {
        let runs: BTreeMap<_, _> = runs.into_iter().collect();
        let counts = runs.iter().map(|(first, last)| last - first);
        let len = counts.fold(0_u64, |len, more| {
            len.saturating_add(more).saturating_add(1)
        });
        Self { runs, len }
    }
}

impl From<&ProducerWindow> for NumberSet {
    fn from(window: &ProducerWindow) -> Self {
        let below = window.next.checked_sub(1).map(|last| (0, last));
        let single = window.above.iter().map(|&number| (number, number));
        let runs = below.into_iter().chain(single);
        runs.chain(window.runs.iter().copied()).collect()
    }
}

impl From<&NumberSet> for ProducerWindow {
    fn from(numbers: &NumberSet) -> Self {
        let mut window = Self::default();
        for (first, last) in numbers.runs() {
            match (first, last.checked_add(1)) {
                (0, Some(next)) => window.next = next,
                _ if first == last => window.above.push(first),
                _ => window.runs.push((first, last)),
            }
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::NumberSet;
    use crate::checkpoint::ProducerWindow;

    #[test]
    fn it_is_the_set_that_a_tree_of_numbers_is() {
        let (mut runs, mut tree) = (NumberSet::default(), BTreeSet::new());
        let mut state = 0x2545_f491_u64;
        for _ in 0..4000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let number = state % 700;
            assert_eq!(runs.contains(number), tree.contains(&number));
            assert_eq!(runs.insert(number), tree.insert(number));
            assert_eq!(runs.len(), tree.len() as u64);
            assert_eq!(runs.last(), tree.last().copied());
            let missing = (number..=700).find(|number| !tree.contains(number));
            assert_eq!(Some(runs.missing_from(number)), missing);
        }
        let listed = runs.runs().flat_map(|(first, last)| first..=last);
        assert!(listed.eq(tree.iter().copied()));
        for ((_, last), (first, _)) in runs.runs().zip(runs.runs().skip(1)) {
            assert!(last + 1 < first, "runs {last} and {first} touch");
        }
    }

    #[test]
    fn a_million_numbers_without_gaps_are_one_run() {
        let set: NumberSet = (0..1_000_000).rev().collect();
        assert_eq!(set.runs().collect::<Vec<_>>(), [(0, 999_999)]);
        assert_eq!(set.len(), 1_000_000);
    }

    #[test]
    fn the_largest_number_is_a_number() {
        let mut set = NumberSet::default();
        assert!(set.insert(u64::MAX) && set.insert(u64::MAX - 1) && !set.insert(u64::MAX));
        assert_eq!(set.runs().collect::<Vec<_>>(), [(u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn windows_hold_what_the_set_holds() {
        let mut numbers = NumberSet::default();
        for number in (0..5).chain([9]).chain(500_000..600_000) {
            assert!(numbers.insert(number));
        }
        let window = ProducerWindow::from(&numbers);
        assert_eq!((window.next, &window.above[..]), (5, &[9][..]));
        assert_eq!(window.runs, [(500_000, 599_999)]);
        assert!(numbers.insert(u64::MAX) && !numbers.insert(u64::MAX));
        assert_eq!(NumberSet::from(&ProducerWindow::from(&numbers)), numbers);
        assert_eq!(NumberSet::from(&window).len(), 100_006);
    }
}

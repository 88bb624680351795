//! Versions that a learner keeps in view: those that producers may be asked to load.

use std::collections::BTreeSet;

use vintage_control::PolicyVersion;

/// Returns the versions in `retained` that `keep` newer ones have superseded, and that are to be
/// removed from the store. Multiples of `pin_every` are not: they stay in the store for ever, and no
/// producer asks for them, so they leave `retained`. Otherwise it, and every announcement, would grow
/// with the run. Version 0 stays in both.
pub(super) fn take_old(
    retained: &mut BTreeSet<PolicyVersion>,
    newest: u64,
    keep: u64,
    pin_every: u64,
) -> Vec<PolicyVersion> {
    let old = retained.iter().copied();
    let old = old.filter(|version| *version != PolicyVersion::ZERO);
    let old = old.take_while(|version| version.0.saturating_add(keep) <= newest);
    let (pinned, gone): (Vec<_>, Vec<_>) =
        old.partition(|version| version.0.is_multiple_of(pin_every));
    for version in pinned {
        retained.remove(&version);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_does_not_grow_with_the_run() {
        let mut retained = BTreeSet::from([PolicyVersion::ZERO]);
        let mut removed = 0;
        for newest in 1..=100_000 {
            retained.insert(PolicyVersion(newest));
            let gone = take_old(&mut retained, newest, 4, 25);
            removed += gone.len() as u64;
            for version in gone {
                assert!(!version.0.is_multiple_of(25), "{version} is kept");
                retained.remove(&version);
            }
            assert!(
                retained.len() <= 5,
                "{} at version {newest}",
                retained.len()
            );
            assert!(retained.contains(&PolicyVersion::ZERO));
        }
        assert_eq!(removed, 100_000 - 4 - 99_996 / 25);
    }
}

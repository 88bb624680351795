//! Findings of an audit, one line each.

use std::collections::{BTreeMap, HashMap};

use vintage_control::{PolicyVersion, Sha256};

/// Maximum number of lines of one kind that are kept; a lost disk would otherwise give millions.
const MOST_LINES: u64 = 20;

/// Breaches, and notes on facts that are not breaches.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    breaches: Lines,
    notes: Lines,
    /// Digest of each version of each policy, and the record that first named it.
    digests: HashMap<(String, PolicyVersion), (Sha256, String)>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl Lines {
    fn add(&mut self, kind: &'static str, line: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= MOST_LINES {
            self.lines.push(line());
        }
    }

    fn into_lines(mut self) -> Vec<String> {
        let omitted = self.counts.iter().filter(|(_, count)| **count > MOST_LINES);
        let omitted =
            omitted.map(|(kind, count)| format!("and {} more: {kind}", count - MOST_LINES));
        self.lines.extend(omitted);
        self.lines
    }
}

impl Findings {
    /// Adds a breach: the records contradict each other. Lines beyond the first [`MOST_LINES`] of a
    /// `kind` are only counted.
    pub(crate) fn breach(&mut self, kind: &'static str, line: impl FnOnce() -> String) {
        self.breaches.add(kind, line);
    }

    /// Adds a note on a fact that is not a breach.
    pub(crate) fn note(&mut self, kind: &'static str, line: impl FnOnce() -> String) {
        self.notes.add(kind, line);
    }

    /// Adds a digest of a version; a digest that differs from one added before is a breach.
    pub(crate) fn digest(
        &mut self,
        policy: &str,
        version: PolicyVersion,
        digest: Sha256,
        source: &str,
    ) {
        let key = (policy.to_owned(), version);
        let said = self.digests.entry(key);
        let (first, by) = said.or_insert_with(|| (digest, source.to_owned()));
        if *first != digest {
            let line = format!(
                "version {version} of {policy} is {first} by {by}, and {digest} by {source}"
            );
            self.breach("digests that disagree", || line);
        }
    }

    /// Returns the lines of the breaches and of the notes.
    pub(crate) fn into_lines(self) -> (Vec<String>, Vec<String>) {
        (self.breaches.into_lines(), self.notes.into_lines())
    }
}

/// Formats ranges of numbers as `3, 7 to 9`, those beyond the first 20 as `and 4 more ranges`.
pub(crate) fn ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> String {
    let mut all = ranges.into_iter();
    let shown = all.by_ref().take(MOST_LINES as usize);
    let shown = shown.map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first} to {last}")
        }
    });
    let text = shown.collect::<Vec<_>>().join(", ");
    match all.count() {
        0 => text,
        more => format!("{text} and {more} more ranges"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_a_kind_are_counted() {
        let mut findings = Findings::default();
        for number in 0..25 {
            findings.breach("records missing", || format!("record {number}"));
        }
        findings.breach("gap", || "a gap".to_owned());
        findings.note("live", || "still running".to_owned());
        let (breaches, notes) = findings.into_lines();
        assert_eq!(breaches.len(), 22);
        assert_eq!(breaches[21], "and 5 more: records missing");
        assert_eq!(notes, ["still running"]);
    }
}

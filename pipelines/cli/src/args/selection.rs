//! Arguments that select groups of an archive.
use std::{ops::RangeInclusive, str::FromStr};

use jiff::Timestamp;
use vintage_archive::{GroupSample, PromptPattern, Selection};
use vintage_control::{Incarnation, Partition, PolicyVersion};

use crate::exit::Usage;

/// Filters on the groups of an archive. A group is taken if every filter wants it. Ranges hold both
/// ends, and either may be left out: 3..9, 3.., ..9, 5.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which groups, and how fast")]
pub(crate) struct SelectionArgs {
    /// Only groups whose policy versions, from the oldest token's to the newest's, meet a range.
    #[arg(long, value_name = "A..B", value_parser = versions)]
    versions: Option<RangeInclusive<u64>>,
    /// Only groups published at or after a time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only groups published at or before a time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only groups whose mean reward is in a range.
    #[arg(long, value_name = "A..B", value_parser = rewards, allow_hyphen_values = true)]
    reward: Option<RangeInclusive<f64>>,
    /// Only groups of prompts whose id matches: * is any text, ? any character; may be repeated.
    #[arg(long, value_name = "GLOB")]
    prompt: Vec<String>,
    /// Only groups of this incarnation of the topic; may be repeated.
    #[arg(long, value_name = "N")]
    incarnation: Vec<u32>,
    /// Only groups of this partition; may be repeated.
    #[arg(long, value_name = "P")]
    partition: Vec<i32>,
    /// Only a share of the groups, from 0 to 1; drawn by the setting `seed`.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    sample: Option<f64>,
    /// Maximum number of groups per second.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
}

impl SelectionArgs {
    /// Returns the selection that the arguments describe.
    pub(crate) fn read(&self, seed: u64) -> Result<Selection, Usage> {
        let since = self.since.map_or(i64::MIN, Timestamp::as_millisecond);
        let until = self.until.map_or(i64::MAX, Timestamp::as_millisecond);
        if since > until {
            return Err(Usage::new(
                "--since is after --until: nothing is between them",
            ));
        }
        let set = |given: bool| given.then_some(());
        Ok(Selection {
            incarnations: set(!self.incarnation.is_empty())
                .map(|()| self.incarnation.iter().copied().map(Incarnation).collect()),
            partitions: set(!self.partition.is_empty())
                .map(|()| self.partition.iter().copied().map(Partition).collect()),
            timestamps_ms: (self.since.is_some() || self.until.is_some()).then_some(since..=until),
            versions: self
                .versions
                .as_ref()
                .map(|range| PolicyVersion(*range.start())..=PolicyVersion(*range.end())),
            prompts: self.prompt.iter().cloned().map(PromptPattern).collect(),
            rewards: self.reward.clone(),
            sample: self.sample.map(|share| GroupSample { share, seed }),
        })
    }
}

fn versions(text: &str) -> Result<RangeInclusive<u64>, String> {
    range(text, 0, u64::MAX)
}

fn rewards(text: &str) -> Result<RangeInclusive<f64>, String> {
    range(text, f64::MIN, f64::MAX)
}

/// Parses a range: `A..B`, `A..`, `..B` or `A`.
fn range<T: FromStr + PartialOrd + Copy>(
    text: &str,
    least: T,
    most: T,
) -> Result<RangeInclusive<T>, String> {
    let end = |text: &str, open: T| match text.trim() {
        "" => Ok(open),
        text => text
            .parse()
            .map_err(|_| format!("{text:?} is no number; a range is 3..9, 3.., ..9 or 5")),
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (end(first, least)?, end(last, most)?),
        None if text.trim().is_empty() => return Err("a range is 3..9, 3.., ..9 or 5".to_owned()),
        None => (end(text, least)?, end(text, most)?),
    };
    if first <= last {
        Ok(first..=last)
    } else {
        Err("nothing is in that range; the lower end comes first".to_owned())
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate >= 1e-6);
    rate.ok_or_else(|| "a rate is a number of groups a second, at least 0.000001".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_both_ends_and_may_be_open() {
        assert_eq!(versions("3..9"), Ok(3..=9));
        assert_eq!(versions("3.."), Ok(3..=u64::MAX));
        assert_eq!(versions("..9"), Ok(0..=9));
        assert_eq!(versions("5"), Ok(5..=5));
        assert_eq!(rewards("-0.5..1"), Ok(-0.5..=1.0));
        for bad in ["9..3", "", "a..b", "1...2", "-1..2"] {
            assert!(versions(bad).is_err(), "{bad}");
        }
        for bad in ["nan..1", "nan"] {
            assert!(rewards(bad).is_err(), "{bad}");
        }
        assert!(share("1.1").is_err() && share("nan").is_err() && share("0.1").is_ok());
        assert!(rate("0").is_err() && rate("inf").is_err() && rate("2.5").is_ok());
    }

    #[test]
    fn no_flag_is_no_filter() {
        let args = SelectionArgs::default();
        assert_eq!(args.read(7).ok(), Some(Selection::default()));
        let args = SelectionArgs {
            since: Some(Timestamp::from_millisecond(5).expect("a time")),
            sample: Some(0.5),
            ..SelectionArgs::default()
        };
        let selection = args.read(7).expect("valid");
        assert_eq!(selection.timestamps_ms, Some(5..=i64::MAX));
        let sample = GroupSample {
            share: 0.5,
            seed: 7,
        };
        assert_eq!(selection.sample, Some(sample));
    }
}

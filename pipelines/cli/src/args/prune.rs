//! Arguments of `vintage prune`.
use std::path::PathBuf;

use super::ConfigArgs;

const PRUNE: &str = "\
Examples:
  vintage prune runs/a --keep-versions 20                     what would go; nothing is deleted
  vintage prune runs/a --keep-versions 20 --keep-every 100 --apply
  vintage prune runs/a --keep-checkpoints 1 --journals --apply
  vintage prune runs/a --keep-versions 20 --older-than 30d    of these only what is 30 days old
  vintage prune runs/a --archive-before 5000 --apply          no exact replay afterwards
  vintage prune --set store=s3://bucket/run-a --set run=a --keep-versions 20 --apply
  vintage prune runs/a --keep-versions 20 --output json | jq .bytes

What is needed stays, whatever is allowed: version 0; the newest checkpoint of each learner, its
version and all after it; the versions that learner.keep_versions and the bound on staleness name; a
version without its evaluation; the last file of each archived partition, and every file with a group
that any learner has not finished with. Another run that reads this archive (learner.archive) is not
known here: prune the archive only when no such run will come.

Afterwards impossible: to export, load or evaluate a version that went; to go back to a checkpoint
that went; with archive files gone, `replay --exact`, `replay --to` and a learner that begins at the
earliest group. `vintage audit` names what was pruned, and still counts every group.";

/// Deletes old versions, checkpoints, archive files and journals that nobody needs any more.
///
/// Without --apply it only says what would go. With it, a record of what goes is written to
/// prunes/N.json before anything is deleted; killed at any moment and started again, it finishes. A
/// run may go on meanwhile; journals are deleted only while no process works in the folder.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PRUNE)]
#[command(group = clap::ArgGroup::new("class").required(true).multiple(true).args(
    ["keep_versions", "keep_checkpoints", "archive_before", "journals"]
))]
pub(crate) struct PruneArgs {
    /// Folder of the run; without it, the settings `store`, `run` and `namespace` say where things
    /// are.
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Deletes. Without it, nothing is changed.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Number of newest versions of each policy that stay; the weights of older ones may go.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_versions: Option<u64>,
    /// Older versions that stay nevertheless: multiples of K.
    #[arg(long, value_name = "K", requires = "keep_versions", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_every: Option<u64>,
    /// Number of newest checkpoints of each learner that stay; older ones may go.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_checkpoints: Option<u64>,
    /// Archive files may go whose every group was trained or refused before version V, by every
    /// learner.
    #[arg(long, value_name = "V", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) archive_before: Option<u64>,
    /// Age, such as 12h, 30d or 2w, that an object must have to go: younger ones stay, whatever the other
    /// options allow.
    #[arg(long, value_name = "DURATION", requires = "class", value_parser = age)]
    pub(crate) older_than: Option<u64>,
    /// Journals of producers that have ended may go; the record keeps their numbers.
    #[arg(long)]
    pub(crate) journals: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Parses an age: a whole number and its unit. Returns seconds.
fn age(text: &str) -> Result<u64, String> {
    let units = [
        ("s", 1),
        ("m", 60),
        ("h", 3600),
        ("d", 86_400),
        ("w", 604_800),
    ];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    });
    parsed.ok_or_else(|| "give a whole number with s, m, h, d or w, such as 12h or 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn an_age_is_a_whole_number_with_its_unit() {
        let seconds = ["45s", "90m", "12h", "30d", "2w"].map(|text| age(text).ok());
        let expected = [45, 5_400, 43_200, 2_592_000, 1_209_600].map(Some);
        assert_eq!(seconds, expected);
        for wrong in [
            "",
            "d",
            "30",
            "-1d",
            "1.5h",
            "1y",
            "99999999999999999w",
            "1 d",
        ] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}

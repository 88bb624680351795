//! `vintage inspect`: shows the contents of a topic, an archive, a run or a message.

mod archive;
mod folder;
mod message;
mod topic;

use std::path::Path;

use anyhow::Result;
use vintage_control::{Offset, Partition};
use vintage_flow::config_file;

use super::Context;
use crate::{
    args::InspectArgs,
    exit::{CommandOutcome, Usage},
};

/// Number of records shown by default.
const LIMIT: u64 = 10;

/// Finds out what the target is and shows it.
pub(crate) async fn inspect(args: &InspectArgs, context: &Context) -> Result<CommandOutcome> {
    let path = Path::new(&args.target);
    let what = if args.target == "-" {
        What::Message
    } else if config_file(path).is_file() {
        // Options about records are applied to the run's archive.
        if args.rows || args.verify {
            What::Archive
        } else {
            What::Run
        }
    } else if path.exists() {
        What::Archive
    } else if args.target.contains('/') {
        let what = format!("there is nothing at {}", args.target);
        return Err(Usage::new(what)
            .hint("name a run's folder, an archive, a topic or -")
            .into());
    } else {
        What::Topic
    };
    what.check(args)?;
    match what {
        What::Message => message::stdin(context)?,
        What::Run => folder::run(path, context).await?,
        What::Archive => return archive::archive(path, args, context).await,
        What::Topic => topic::topic(args, context).await?,
    }
    Ok(CommandOutcome::Done)
}

/// Kind of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Message,
    Run,
    Archive,
    Topic,
}

impl What {
    /// Refuses options that do not apply to this kind of target, because they would be ignored.
    fn check(self, args: &InspectArgs) -> Result<(), Usage> {
        let records = args.rows || self == Self::Topic;
        let config = &args.config;
        let settings = args.out.is_some()
            || config.broker.is_some()
            || config.preset.is_some()
            || config.seed.is_some()
            || config.metrics.is_some()
            || !config.config.is_empty()
            || !config.set.is_empty();
        let of_files = records || self == Self::Archive;
        let given = [
            ("--rows", args.rows, self != Self::Message),
            ("--verify", args.verify, self == Self::Archive),
            ("--limit", args.limit.is_some(), records),
            ("--partition", args.partition.is_some(), of_files),
            ("--from", args.from.is_some(), of_files),
            (
                "--out, --broker or a setting",
                settings,
                self == Self::Topic,
            ),
        ];
        let refused = given.into_iter().find(|(_, given, fits)| *given && !fits);
        let Some((option, ..)) = refused else {
            return Ok(());
        };
        let (of, instead) = match self {
            Self::Message => ("a message", "kcat chooses which"),
            Self::Run => (
                "a run's folder",
                "with --rows it shows the rollouts of its archive",
            ),
            Self::Archive => (
                "an archive",
                "--rows shows the rollouts, --verify checks the files",
            ),
            Self::Topic => ("a topic", "it reads every record it shows"),
        };
        Err(Usage::new(format!("{option} says nothing about {of}"))
            .hint(format!("leave it out; {instead}")))
    }
}

/// Returns true if `--partition` and `--from` admit a record.
fn wanted(args: &InspectArgs, partition: Partition, offset: Offset) -> bool {
    args.partition.is_none_or(|only| only == partition.0)
        && args.from.is_none_or(|from| offset.0 >= from)
}

/// Refuses a `--partition` that does not exist, and a `--from` beyond all records; `ends` are the
/// partitions with the offsets at which they end.
fn check_place(args: &InspectArgs, ends: &[(Partition, Offset)]) -> Result<(), Usage> {
    let there: Vec<_> = ends
        .iter()
        .map(|(partition, _)| partition.to_string())
        .collect();
    let looked_at: Vec<_> = ends
        .iter()
        .filter(|(partition, _)| args.partition.is_none_or(|only| only == partition.0))
        .collect();
    if let (Some(only), true) = (args.partition, looked_at.is_empty()) {
        return Err(Usage::new(format!(
            "--partition {only}: there is no such partition; there are {}",
            there.join(", ")
        )));
    }
    let Some(from) = args.from.filter(|from| *from > 0) else {
        return Ok(());
    };
    if looked_at.iter().any(|(_, end)| from < end.0) {
        return Ok(());
    }
    let ends: Vec<_> = looked_at
        .iter()
        .map(|(partition, end)| format!("partition {partition} ends before offset {end}"))
        .collect();
    Err(Usage::new(format!(
        "--from {from}: nothing is there; {}",
        ends.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Verb};

    fn args(words: &[&str]) -> Box<InspectArgs> {
        let cli = Cli::try_parse_from(["vintage", "inspect", "x"].iter().chain(words));
        match cli.expect("valid").verb {
            Verb::Inspect(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_option_that_would_be_ignored_is_refused() {
        use What::{Archive, Message, Run, Topic};
        let table: [(&[&str], &[What]); 7] = [
            (&[], &[Message, Run, Archive, Topic]),
            (&["--rows"], &[Run, Archive, Topic]),
            (&["--verify"], &[Archive]),
            (&["--limit", "3"], &[Topic]),
            (&["--rows", "--limit", "3"], &[Run, Archive, Topic]),
            (&["--partition", "0"], &[Archive, Topic]),
            (&["--set", "run=a"], &[Topic]),
        ];
        for (words, fits) in table {
            for what in [Message, Run, Archive, Topic] {
                let checked = what.check(&args(words));
                assert_eq!(
                    checked.is_ok(),
                    fits.contains(&what),
                    "{words:?} of {what:?}"
                );
            }
        }
    }

    #[test]
    fn a_partition_or_an_offset_that_is_not_there_is_refused_with_what_is() {
        let ends = [(Partition(0), Offset(5)), (Partition(1), Offset(9))];
        let check = |words: &[&str]| check_place(&args(words), &ends).map_err(|e| e.to_string());
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["--partition", "1", "--from", "8"]), Ok(()));
        assert_eq!(check(&["--from", "8"]), Ok(()));
        let error = check(&["--partition", "2"]).expect_err("refused");
        assert!(error.contains("there are 0, 1"), "{error}");
        let error = check(&["--partition", "0", "--from", "5"]).expect_err("refused");
        assert!(
            error.contains("partition 0 ends before offset 5"),
            "{error}"
        );
        assert!(check(&["--from", "9"]).is_err());
    }
}

//! Content of an archive, described for a selection that takes nothing from it.

use std::{collections::BTreeSet, fmt::Display};

use vintage_archive::{Reader, Selection};

use crate::{
    error::{Error, Result},
    replay::listed,
};

/// Refuses a selection that yields nothing: an incarnation or partition that is not archived, or
/// filters that no group passes. Reads until the first group that does.
pub(super) async fn takes_something(reader: &Reader, selection: &Selection) -> Result<()> {
    let held = Held::read(reader).await?;
    known(
        "--incarnation",
        selection.incarnations.as_ref(),
        &held.incarnations,
    )?;
    known(
        "--partition",
        selection.partitions.as_ref(),
        &held.partitions,
    )?;
    let mut groups = reader.groups(selection).await?;
    if groups.next().await?.is_some() {
        return Ok(());
    }
    let filtered = groups.counts().skipped.iter();
    let filtered: Vec<_> = filtered
        .map(|(filter, records)| format!("{filter:?} {records}").to_lowercase())
        .collect();
    let refused = if filtered.is_empty() {
        String::new()
    } else {
        format!(" (records refused: {})", filtered.join(", "))
    };
    Err(Error::NothingSelected {
        topic: reader.topic().to_owned(),
        refused,
        held: held.to_string(),
    })
}

fn known<T: Ord + Display>(
    option: &str,
    wanted: Option<&BTreeSet<T>>,
    there: &BTreeSet<T>,
) -> Result<()> {
    let unknown = wanted
        .into_iter()
        .flatten()
        .find(|one| !there.contains(one));
    match unknown {
        None => Ok(()),
        Some(unknown) => Err(Error::Setting {
            setting: format!("{option} {unknown}"),
            reason: format!("the archive has none such; there are {}", listed(there)),
        }),
    }
}

/// Content of an archive according to the footers of its files.
#[derive(Default)]
struct Held {
    incarnations: BTreeSet<vintage_control::Incarnation>,
    partitions: BTreeSet<vintage_control::Partition>,
    messages: u64,
    versions: Option<(u64, u64)>,
}

impl Held {
    async fn read(reader: &Reader) -> Result<Self> {
        let mut held = Self::default();
        for incarnation in reader.incarnations().await? {
            held.incarnations.insert(incarnation);
            for partition in reader.partitions(incarnation).await? {
                held.partitions.insert(partition);
                for file in reader.chain(incarnation, partition).await? {
                    let footer = file.footer;
                    held.messages += footer.messages;
                    let versions = footer.min_policy_version.zip(footer.max_policy_version);
                    if let Some((low, high)) = versions {
                        let (least, most) = held.versions.unwrap_or((low.0, high.0));
                        held.versions = Some((least.min(low.0), most.max(high.0)));
                    }
                }
            }
        }
        Ok(held)
    }
}

impl Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} records in partitions {}",
            self.messages,
            listed(&self.partitions)
        )?;
        match self.versions {
            Some((low, high)) => write!(f, ", of versions {low} to {high}"),
            None => Ok(()),
        }
    }
}

//! Messages by the versions that sampled them, as evidence that these versions existed.

use vintage_control::{PolicyVersion, RecordId};

use crate::{error::Result, reader::Reader};

/// Archived message that names the newest version which sampled any of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Position in the log.
    pub record: RecordId,
    /// Newest version that sampled any of the message's tokens.
    pub version: PolicyVersion,
    /// Path of the file that holds the message, from the archive's root.
    pub path: String,
}

impl Reader {
    /// Returns the messages that versions of `policy` newer than `version` have sampled. Files are
    /// chosen by their footers, so that nothing else is read where there are none.
    pub async fn sampled_after(
        &self,
        policy: &str,
        version: PolicyVersion,
    ) -> Result<Vec<Sampled>> {
        let mut found = Vec::new();
        for incarnation in self.incarnations().await? {
            for partition in self.partitions(incarnation).await? {
                for file in self.chain(incarnation, partition).await? {
                    if file.footer.max_policy_version <= Some(version) {
                        continue;
                    }
                    let path = file.path.clone();
                    let mut heads = self.heads_in(file);
                    while let Some(head) = heads.next().await? {
                        let Ok(headers) = head.headers else { continue };
                        let newest = headers.max_policy_version;
                        if !head.quarantined && headers.policy == policy && newest > version {
                            found.push(Sampled {
                                record: head.record,
                                version: newest,
                                path: path.clone(),
                            });
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::{Offset, PolicyVersion};

    use crate::{
        fixture::{Log, TOPIC, archive, scratch},
        reader::Reader,
    };

    #[tokio::test]
    async fn messages_of_newer_versions_are_found_by_policy() {
        let (_folder, store) = scratch();
        // Version N / 4 begins the group at offset N, and the next one ends it.
        archive(&store, &Log::small(2, 20)).await;
        let reader = Reader::new(store, TOPIC);
        let after = async |policy: &str, version: u64| {
            let version = PolicyVersion(version);
            reader.sampled_after(policy, version).await.unwrap()
        };
        let newest = after("lead", 4).await;
        assert_eq!(newest.len(), 8, "four of each partition: {newest:?}");
        for sampled in &newest {
            assert_eq!(sampled.version, PolicyVersion(5));
            assert!(sampled.record.offset >= Offset(16), "{sampled:?}");
            assert!(sampled.path.contains(TOPIC), "{sampled:?}");
        }
        assert!(after("lead", 5).await.is_empty());
        assert!(after("other", 0).await.is_empty());
    }
}

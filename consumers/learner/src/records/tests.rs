use vintage_control::{CONTROL_FORMAT, Plan, PolicyVersion, Sha256, Training};
use vintage_store::Store;

use super::Records;
use crate::{Error, fingerprint, intake::fixture};

fn plan(writer: &str) -> Plan {
    Plan {
        format: CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().unwrap(),
        writer: writer.to_owned(),
        policy: "lead".parse().unwrap(),
        version: PolicyVersion(7),
        weights_sha256: Sha256([0; 32]),
        seed: 0,
        groups: Vec::new(),
        micro_batches: Vec::new(),
        rejections: Vec::new(),
        algorithm: fixture::settings().algorithm,
        optimizer: fixture::settings().optimizer,
        training: Training::default(),
        fingerprint: fingerprint::current(),
        follows: None,
        known: Vec::new(),
    }
}

/// Checks that a plan fences: of two learners with one name, the second to write it is refused.
#[tokio::test]
async fn of_two_learners_of_one_name_the_second_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let records = Records::new(store, "lead".parse().unwrap());
    records.write_plan(&plan("first")).await.unwrap();
    // Writing the same plan again succeeds, because the first answer may have been lost.
    records.write_plan(&plan("first")).await.unwrap();
    let error = records.write_plan(&plan("second")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Fenced { theirs, .. } if theirs == "first"),
        "{error}"
    );
    let kept = records.plan(PolicyVersion(7)).await.unwrap().unwrap();
    assert_eq!(kept.writer, "first");
}

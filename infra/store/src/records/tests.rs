use vintage_control::{Plan, PolicyVersion, UpdateNumber};

use super::Records;
use crate::{error::Error, store::Store};

fn plan(writer: &str) -> Plan {
    let golden = include_str!("../../../../schemas/control/tests/golden/plan.json");
    let plan: Plan = serde_json::from_str(golden).unwrap();
    Plan {
        learner: "lead".parse().unwrap(),
        writer: writer.to_owned(),
        version: PolicyVersion(7),
        ..plan
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
    let kept = records.plan(UpdateNumber(7)).await.unwrap().unwrap();
    assert_eq!(kept.writer, "first");
}

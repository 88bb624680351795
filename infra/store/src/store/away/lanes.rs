//! Objects that are read ahead.

use std::sync::atomic::Ordering;

use super::{remote, troubled};

/// Numbered records are read ahead, not all at once, in their order, and across an outage.
#[tokio::test]
async fn a_lane_reads_a_few_objects_at_a_time_and_keeps_their_order() {
    let (server, store, _cancel) = remote();
    for number in 0..100_u64 {
        let path = format!("results/{number}.json");
        let _new = store.create_json(&path, &number).await.unwrap();
    }
    server.most.store(0, Ordering::Relaxed);
    let paths = (0_u64..).map(|number| format!("results/{number}.json"));
    let mut lane = store.lane_json::<u64, _>(paths);
    for number in 0..100 {
        if number == 40 {
            troubled(&server, 3, false, false);
        }
        assert_eq!(lane.next().await.unwrap(), Some(number));
    }
    assert_eq!(lane.next().await.unwrap(), None);
    let most = server.most.load(Ordering::Relaxed);
    assert_eq!(most, crate::lane::AT_ONCE as u64);
}

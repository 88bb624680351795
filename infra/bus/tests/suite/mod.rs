//! Conformance suite for every broker: the embedded one (a fresh one for each case) and a real
//! Apache Kafka (one for all cases).

mod flow;
mod group;
mod position;
mod roundtrip;
pub(crate) mod support;
mod trouble;

use std::pin::Pin;

use vintage_bus::Bus;

pub(crate) type Case = fn(&Bus) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

/// Cases that every broker must pass, by name.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("records_round_trip", |bus| {
        Box::pin(roundtrip::records_round_trip(bus))
    }),
    ("a_record_is_appended_as_it_was", |bus| {
        Box::pin(roundtrip::a_record_is_appended_as_it_was(bus))
    }),
    ("large_records_round_trip", |bus| {
        Box::pin(roundtrip::large_records_round_trip(bus))
    }),
    ("a_key_keeps_its_order", |bus| {
        Box::pin(flow::a_key_keeps_its_order(bus))
    }),
    ("a_slow_reader_loses_nothing", |bus| {
        Box::pin(flow::a_slow_reader_loses_nothing(bus))
    }),
    ("readers_are_independent", |bus| {
        Box::pin(flow::readers_are_independent(bus))
    }),
    ("a_cancelled_publish_holds_nothing", |bus| {
        Box::pin(flow::a_cancelled_publish_holds_nothing(bus))
    }),
    ("acknowledged_is_readable", |bus| {
        Box::pin(position::acknowledged_is_readable(bus))
    }),
    ("reading_starts_at_the_given_offset", |bus| {
        Box::pin(position::reading_starts_at_the_given_offset(bus))
    }),
    ("an_offset_past_the_end_is_named", |bus| {
        Box::pin(position::an_offset_past_the_end_is_named(bus))
    }),
    ("an_end_is_told_where_reading_comes_to_it", |bus| {
        Box::pin(position::an_end_is_told_where_reading_comes_to_it(bus))
    }),
    ("a_snapshot_ends_by_itself", |bus| {
        Box::pin(position::a_snapshot_ends_by_itself(bus))
    }),
    ("times_give_offsets", |bus| {
        Box::pin(position::times_give_offsets(bus))
    }),
    ("the_cluster_has_an_id", |bus| {
        Box::pin(position::the_cluster_has_an_id(bus))
    }),
    ("a_missing_topic_is_named", |bus| {
        Box::pin(trouble::a_missing_topic_is_named(bus))
    }),
    ("a_topic_that_differs_is_refused", |bus| {
        Box::pin(trouble::a_topic_that_differs_is_refused(bus))
    }),
    ("a_record_too_large_is_refused", |bus| {
        Box::pin(trouble::a_record_too_large_is_refused(bus))
    }),
    ("members_share_and_hand_over", |bus| {
        Box::pin(group::members_share_and_hand_over(bus))
    }),
    ("a_failed_start_ends_the_member", |bus| {
        Box::pin(group::a_failed_start_ends_the_member(bus))
    }),
];

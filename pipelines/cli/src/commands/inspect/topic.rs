//! The records of a topic.

use std::{collections::BTreeMap, io::Write, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vintage_bus::{Bus, ConsumerLimits, Event, Record};
use vintage_control::{Offset, Partition};
use vintage_flow::broker::Broker;
use vintage_trajectory::Rows;

use super::{super::topics::resolve, Context, message::Message, wanted};
use crate::{args::InspectArgs, output::writer};

/// Offsets at the end of a partition may hold no record; after this long nothing more comes.
const SILENCE: Duration = Duration::from_secs(5);

/// Prints the records that were in the topic when this began, `--limit` at most.
pub(super) async fn topic(args: &InspectArgs, context: &Context) -> Result<()> {
    let out = args.out.as_deref();
    let broker = Broker::open(&resolve(&args.config, out)?, out).await?;
    let shown = show(broker.bus(), args, context).await;
    broker.close().await?;
    shown
}

async fn show(bus: &Bus, args: &InspectArgs, context: &Context) -> Result<()> {
    let marks = bus.watermarks(&args.target).await?;
    let from = |low: Offset, high: Offset| {
        args.from
            .map_or(low, |from| Offset(from.clamp(low.0, high.0)))
    };
    let mut ends = BTreeMap::new();
    let mut start = Vec::new();
    for (partition, low, high) in marks {
        let at = from(low, high);
        if at < high && args.partition.is_none_or(|only| only == partition.0) {
            ends.insert(partition, high);
            start.push((partition, at));
        }
    }
    if start.is_empty() {
        return Ok(());
    }
    read(bus, args, start, ends, context).await
}

async fn read(
    bus: &Bus,
    args: &InspectArgs,
    start: Vec<(Partition, Offset)>,
    mut ends: BTreeMap<Partition, Offset>,
    context: &Context,
) -> Result<()> {
    let mut records = bus.consumer("inspect", &args.target, start, ConsumerLimits::default())?;
    let mut out = writer();
    let mut left = args.limit;
    while left > 0 && !ends.is_empty() {
        let Ok(event) = tokio::time::timeout(SILENCE, records.next()).await else {
            break;
        };
        let Some(event) = event? else { break };
        let Event::Record(record) = event else {
            continue;
        };
        if ends
            .get(&record.partition)
            .is_some_and(|end| record.offset.next() >= *end)
        {
            ends.remove(&record.partition);
        }
        if wanted(args, record.partition, record.offset) {
            left -= 1;
            print(&record, context.output.is_json(), &mut out)?;
        }
    }
    records.close();
    out.flush().context("cannot print the records")
}

fn print(record: &Record, json: bool, out: &mut impl Write) -> Result<()> {
    let payload = record.payload.as_deref().unwrap_or_default();
    // The companions of a rollouts topic carry one JSON object a record.
    if let Ok(Value::Object(fields)) = serde_json::from_slice(payload) {
        let mut line = json!({
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": record.key.as_deref().map(String::from_utf8_lossy),
        });
        if let Some(line) = line.as_object_mut().filter(|_| json) {
            line.insert("value".to_owned(), Value::Object(fields));
            return writeln!(out, "{}", json!(line)).context("cannot print the records");
        }
        let (partition, offset) = (record.partition, record.offset);
        return writeln!(
            out,
            "partition {partition} offset {offset}\n  {}",
            Value::Object(fields)
        )
        .context("cannot print the records");
    }
    let rows = Rows::decode(payload);
    let message = Message {
        place: Some((record.partition.0, record.offset.0)),
        timestamp_ms: record.timestamp_ms,
        headers: &record.headers,
        rows: rows.as_ref().map_err(ToString::to_string),
    };
    message.write(json, out)
}

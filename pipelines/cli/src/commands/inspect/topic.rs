//! Shows the records of a topic.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vintage_bus::{Bus, Record};
use vintage_control::{Offset, Partition};
use vintage_flow::broker::Broker;
use vintage_trajectory::Rows;

use super::{super::topics::of_run, Context, LIMIT, check_place, message::ShownMessage, wanted};
use crate::{
    args::InspectArgs,
    output::{is_closed, writer},
};

/// Time without any record after which the broker is considered gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Prints the records that were in the topic when this began, `--limit` at most.
pub(super) async fn topic(args: &InspectArgs, context: &Context) -> Result<()> {
    let out = args.out.as_deref();
    let broker = Broker::open(&of_run(&args.config, out)?, out).await?;
    let shown = show(broker.bus(), args, context).await;
    broker.close_after(shown).await
}

async fn show(bus: &Bus, args: &InspectArgs, context: &Context) -> Result<()> {
    let from = |partition: Partition, low: Offset, high: Offset| {
        let at = args
            .from
            .map_or(low, |from| Offset(from.clamp(low.0, high.0)));
        let wanted = args.partition.is_none_or(|only| only == partition.0);
        wanted.then_some(at)
    };
    let marks = bus.watermarks(&args.target).await?;
    let all: Vec<_> = marks.iter().map(|(p, _, high)| (*p, *high)).collect();
    check_place(args, &all)?;
    let mut records = bus.snapshot("inspect", &args.target, from).await?;
    let mut out = writer();
    let mut left = args.limit.unwrap_or(LIMIT);
    while left > 0 && !is_closed() {
        let record = match records.next_within(SILENCE).await {
            Err(vintage_bus::Error::Silent { .. }) => break,
            record => record?,
        };
        let Some(record) = record else { break };
        if wanted(args, record.partition, record.offset) {
            left -= 1;
            print(&record, context.output.is_json(), &mut out)?;
        }
    }
    out.flush().context("cannot print the records")?;
    if left > 0
        && let Some((partition, offset)) = records.unread().first_key_value()
    {
        anyhow::bail!(
            "nothing of partition {partition} came from offset {offset} on for {} s: check the broker",
            SILENCE.as_secs()
        );
    }
    Ok(())
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
    let message = ShownMessage {
        place: Some((record.partition.0, record.offset.0)),
        timestamp_ms: record.timestamp_ms,
        headers: &record.headers,
        rows: rows.as_ref().map_err(ToString::to_string),
    };
    message.write(json, out)
}

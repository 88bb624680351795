//! `vintage bench transport`: measures the cost of carrying rollouts over that of carrying bytes.

use std::collections::BTreeMap;

use anyhow::Result;
use vintage_bench::transport::{Arm, Load, Measured, Phase, measure};
use vintage_broker::{LocalKafka, LocalOptions};
use vintage_bus::Bus;

use crate::{
    commands::Context,
    exit::Usage,
    output::{bytes, table},
};

/// Measures on the broker at an address, or on a local one that is started for this.
pub(crate) async fn transport(broker: Option<&str>, load: Load, context: &Context) -> Result<()> {
    if load.bytes == 0 || load.passes == 0 || load.rows == 0 || load.tokens == 0 {
        let what = "megabytes, passes, rows and tokens must be at least 1";
        return Err(Usage::new(what).into());
    }
    let measured = if let Some(address) = broker {
        measure(&Bus::connect(address, &BTreeMap::new())?, load).await?
    } else {
        let dir = std::env::temp_dir().join(format!("vintage-bench-{}", std::process::id()));
        let local = LocalKafka::up(&dir, LocalOptions::default()).await?;
        let measured = measure(&local.bus()?, load).await;
        let measured = local.down_after(measured).await;
        let removed = std::fs::remove_dir_all(&dir);
        let measured = measured?;
        removed?;
        measured
    };
    context.output.print(&measured, text)
}

fn text(measured: &Measured) -> String {
    let row = |name: &str, phase: fn(&Arm) -> Phase| {
        let (ours, bare) = (phase(&measured.vintage), phase(&measured.bare));
        vec![
            name.to_owned(),
            format!("{:.2}", ours.cpu_s_per_gb),
            format!("{:.2}", bare.cpu_s_per_gb),
            format!("{:.2}", ours.gb_per_s),
            format!("{:.2}", bare.gb_per_s),
        ]
    };
    let rows = [
        row("encode, publish", |arm| arm.produce),
        row("consume, decode", |arm| arm.consume),
        row("both", |arm| arm.both),
    ];
    let head = ["", "CPU s/GB", "bare rdkafka", "GB/s", "bare rdkafka"];
    format!(
        "{} messages of {} a pass, {} passes of each in turns, medians\n{}\
         throughput: {:.2} of bare rdkafka's; CPU: {:.2} of its\n",
        measured.messages,
        bytes(measured.message_bytes as u64),
        measured.passes,
        table(&head, &rows),
        measured.throughput_ratio,
        measured.cpu_ratio,
    )
}

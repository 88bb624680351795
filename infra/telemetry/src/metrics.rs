//! Prometheus metrics of this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use vintage_control::{Metric, MetricKind};

/// Buckets of the histogram of update times, in seconds: from the tiny decoder's milliseconds to
/// minutes.
const SECONDS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

/// Parses the address to listen on: `IP:PORT`, or `PORT` alone for 127.0.0.1.
///
/// # Errors
/// A description of the expected text.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let expected = "give IP:PORT, for example 127.0.0.1:9400; a port alone is on 127.0.0.1";
    text.parse().map_err(|_| expected.to_owned())
}

/// Installs the process's recorder of metrics; the returned handle renders what it recorded. Without
/// a recorder, counting costs next to nothing.
///
/// # Errors
/// The reason for which it cannot be installed.
pub(crate) fn record() -> Result<PrometheusHandle, String> {
    let of_updates = Matcher::Full(Metric::UPDATE_SECONDS.name.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(of_updates, &SECONDS)
        .map_err(|error| error.to_string())?;
    let handle = builder
        .install_recorder()
        .map_err(|error| error.to_string())?;
    describe();
    Ok(handle)
}

fn describe() {
    for Metric { name, kind, help } in Metric::ALL {
        match kind {
            MetricKind::Counter => describe_counter!(name, help),
            MetricKind::Gauge => describe_gauge!(name, help),
            MetricKind::Seconds => describe_histogram!(name, Unit::Seconds, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_address;

    #[test]
    fn a_port_alone_is_on_this_machine() {
        let local = parse_address("9400").unwrap();
        assert_eq!(local.to_string(), "127.0.0.1:9400");
        assert!(parse_address("0.0.0.0:9400").unwrap().ip().is_unspecified());
        for bad in ["", "localhost", "127.0.0.1", "70000", "127.0.0.1:x"] {
            assert!(parse_address(bad).is_err(), "{bad:?}");
        }
    }
}

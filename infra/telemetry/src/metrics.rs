//! Prometheus metrics of this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use vintage_control::{Metric, MetricKind};

use crate::Error;

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

/// Serves `http://address/metrics` until the process ends. Must be called inside a tokio runtime.
/// Without this call, counting costs next to nothing.
///
/// # Errors
/// [`Error::Listen`] if the address cannot be bound or the exporter cannot be installed.
pub fn serve(address: SocketAddr) -> Result<(), Error> {
    let refused = |reason: String| Error::Listen { address, reason };
    // The exporter binds later, in a task of its own, where a failure would go unnoticed.
    let free = TcpListener::bind(address).map_err(|error| refused(error.to_string()))?;
    drop(free);
    let builder = PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(
            Matcher::Full(Metric::UPDATE_SECONDS.name.to_owned()),
            &SECONDS,
        )
        .map_err(|error| refused(error.to_string()))?;
    builder
        .install()
        .map_err(|error| refused(error.to_string()))?;
    describe();
    Ok(())
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

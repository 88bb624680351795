//! Operations endpoints of this process: `/metrics`, `/healthz`, `/readyz`, the live page and its
//! data.
//!
//! The listener has a thread and a runtime of its own, so that it answers when the runtime of the
//! roles does not.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue,
        X_CONTENT_TYPE_OPTIONS,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use crate::{Error, metrics::record, status::Status};

/// Maximum number of connections at a time; others wait for one to end.
const CONNECTIONS: usize = 64;
/// Time within which a connection must have sent its request and taken the answer.
const CONNECTION: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const HEAD: usize = 16 << 10;
/// Interval at which the recorder drops old samples.
const UPKEEP: Duration = Duration::from_secs(5);
/// Wait after a connection could not be accepted, for example because files are short.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
/// Content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Sources that the live page may load: its own styles and script, and data from this listener.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Serves the endpoints at `address` until the process ends, and returns the address, whose port is
/// the one that the system chose if 0 was asked for.
///
/// # Errors
/// [`Error::Listen`] if the address cannot be bound or the recorder of metrics cannot be installed.
pub fn serve(address: SocketAddr, status: Arc<dyn Status>) -> Result<SocketAddr, Error> {
    let refused = |reason: String| Error::Listen { address, reason };
    let failed = |error: std::io::Error| refused(error.to_string());
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let metrics = record().map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let local = bound.ip().is_loopback();
    let site = Arc::new(Site {
        metrics,
        status,
        local,
    });
    std::thread::Builder::new()
        .name("endpoints".into())
        .spawn(move || runtime.block_on(accept(listener, site)))
        .map_err(failed)?;
    tracing::info!("metrics, health and the live page are at http://{bound}/");
    Ok(bound)
}

/// Everything that the endpoints answer from.
struct Site {
    metrics: PrometheusHandle,
    status: Arc<dyn Status>,
    /// True if the address is on loopback. A page of another site whose name was made to point here
    /// could read everything, so only names of this machine are answered then.
    local: bool,
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the endpoints cannot be served: {error}"),
    };
    let upkept = Arc::clone(&site);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkept.metrics.run_upkeep();
        }
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection to the endpoints was not accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = site.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(CONNECTION)
                .max_buf_size(HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION, serving).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("a request to the endpoints failed: {error}"),
                Err(_) => tracing::debug!("a request to the endpoints took too long"),
            }
            drop(permit);
        });
    }
}

impl Site {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let text = "only GET and HEAD are answered here\n".to_owned();
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
        if self.local && !host.is_none_or(is_local) {
            let text = "this listener is on loopback and answers to localhost and IP addresses of it \
                        only\n";
            return response(StatusCode::MISDIRECTED_REQUEST, TEXT, text.to_owned());
        }
        match request.uri().path() {
            "/" => {
                let page = self.status.page();
                let mut page = response(StatusCode::OK, "text/html; charset=utf-8", page);
                let policy = HeaderValue::from_static(POLICY);
                page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
                page
            }
            "/live.json" => response(StatusCode::OK, "application/json", self.status.live()),
            "/metrics" => response(StatusCode::OK, PROMETHEUS, self.metrics.render()),
            "/healthz" => verdict(self.status.health()),
            "/readyz" => verdict(self.status.readiness()),
            path => {
                let text = format!(
                    "there is no {path} here; there are /, /live.json, /metrics, /healthz and \
                     /readyz\n"
                );
                response(StatusCode::NOT_FOUND, TEXT, text)
            }
        }
    }
}

/// Returns true if a `Host` header names this machine: `localhost`, or an address on loopback. A
/// listener on loopback that answers to other names could be read by a page of another site whose
/// name was made to point here.
pub fn is_local(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
}

/// Returns 200 with what the process does, or 503 with what is wrong.
fn verdict(verdict: Result<String, String>) -> Response<Full<Bytes>> {
    let (status, text) = match verdict {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    };
    response(status, TEXT, text + "\n")
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

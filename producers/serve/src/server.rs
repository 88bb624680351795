//! Listener: HTTP of the endpoints, with bounds on everything that a client may send.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue, ORIGIN, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use vintage_local::LocalModel;
use vintage_telemetry::is_local;

use crate::{
    engine::Engine,
    error::Error,
    refusal::Refusal,
    routes::{Answer, Site},
};

/// Maximum number of connections at a time; others wait for one to end.
const CONNECTIONS: usize = 1024;
/// Maximum number of bodies that are received at a time; others wait.
const BODIES: usize = 64;
/// Largest body of a request, in bytes.
const BODY: usize = 8 << 20;
/// Largest head of a request, in bytes.
const HEAD: usize = 16 << 10;
/// Time within which the body of a request must have come.
const SENDING: Duration = Duration::from_secs(30);
/// Time for which a connection may be idle, or send a head. Clients keep connections for less, so that
/// none sends a request just when the connection is closed.
const IDLE: Duration = Duration::from_secs(120);
/// Wait after a connection could not be accepted, for example because files are short.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Model to be served, and where.
pub struct ServeSetup {
    /// Model that samples.
    pub model: LocalModel,
    /// Name of the model in requests.
    pub name: String,
    /// Label of its weights.
    pub label: String,
    /// Address to listen at; port 0 is chosen by the system.
    pub listen: SocketAddr,
    /// True if clients may pause the engine and change its weights.
    pub control: bool,
    /// Largest number of tokens that are sampled together, prompts and longest completions. A single
    /// completion may be longer.
    pub batch_tokens: usize,
}

/// Server that listens and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    pub(crate) site: Arc<Site>,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`Error::Listen`] if that is not possible.
    pub async fn bind(setup: ServeSetup) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: setup.listen,
            source,
        };
        let listener = TcpListener::bind(setup.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let engine = Engine::new(setup.model, setup.label, setup.batch_tokens);
        let site = Arc::new(Site {
            engine,
            model: setup.name,
            control: setup.control,
        });
        Ok(Self {
            listener,
            address,
            site,
        })
    }

    /// Address that is listened at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`, then finishes those that were received, and returns the number
    /// of completions sampled. What waits for the end of a pause by then is aborted.
    pub async fn run(self, stop: CancellationToken) -> u64 {
        let site = Arc::clone(&self.site);
        let sampler = tokio::spawn(async move { site.engine.sample_all().await });
        let door = Arc::new(Door {
            site: Arc::clone(&self.site),
            local: self.address.ip().is_loopback(),
            bodies: Semaphore::new(BODIES),
        });
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let ending = CancellationToken::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room) => accepted,
                Some(_ended) = connections.join_next() => continue,
                () = stop.cancelled() => break,
            };
            let Some((stream, permit)) = accepted else {
                continue;
            };
            let (door, ends) = (Arc::clone(&door), ending.clone());
            connections.spawn(async move {
                serve(door, stream, ends).await;
                drop(permit);
            });
        }
        drop(self.listener);
        tracing::info!(
            "ending after {} completions that wait",
            self.site.engine.waiting()
        );
        if self.site.engine.is_paused() {
            self.site.engine.abort_waiting();
        }
        ending.cancel();
        while connections.join_next().await.is_some() {}
        sampler.abort();
        self.site.engine.sampled()
    }
}

type Accepted = (tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!("a connection was not accepted: {error}");
            tokio::time::sleep(ACCEPT_AGAIN).await;
            None
        }
    }
}

/// Serves one connection until it ends; at the end of the server after the request in hand.
async fn serve(door: Arc<Door>, stream: tokio::net::TcpStream, ends: CancellationToken) {
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ends.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Entrance of every request.
struct Door {
    site: Arc<Site>,
    /// True if the address is on loopback. A page of another site whose name was made to point here
    /// could read everything, so only names of this machine are answered then.
    local: bool,
    bodies: Semaphore,
}

impl Door {
    async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let uri = request.uri().clone();
        let mut allowed = None;
        let answer = self.checked(request, &mut allowed).await;
        let mut response = match answer {
            Ok((path, body)) => {
                let query = uri.query().unwrap_or_default();
                response(&self.site.answer(&path, query, &body).await)
            }
            Err(refusal) => response(&Err(refusal)),
        };
        if let Some(method) = allowed {
            let allowed = HeaderValue::from_static(method);
            response.headers_mut().insert(ALLOW, allowed);
        }
        response
    }

    /// Returns path and body of a request that may be answered.
    async fn checked<B>(
        &self,
        request: Request<B>,
        allowed: &mut Option<&'static str>,
    ) -> Result<(String, Bytes), Refusal>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let headers = request.headers();
        let host = headers.get(HOST).map(HeaderValue::as_bytes);
        if self.local && !host.is_none_or(is_local) {
            let message = "this server is on loopback and answers to localhost and IP addresses of \
                           it only";
            return Err(Refusal::new(421, message));
        }
        // Any page that a browser on this machine shows could send one.
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::new(403, "pages in a browser are not answered"));
        }
        let path = request.uri().path().to_owned();
        let method = self.site.method(&path)?;
        if request.method() != method {
            *allowed = Some(method);
            let message = format!("{path} is for {method}");
            return Err(Refusal::new(405, message));
        }
        if method == "GET" {
            return Ok((path, Bytes::new()));
        }
        let _room = self.bodies.acquire().await;
        let body = Limited::new(request.into_body(), BODY).collect();
        match tokio::time::timeout(SENDING, body).await {
            Ok(Ok(body)) => Ok((path, body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("the body has more than {BODY} bytes");
                Err(Refusal::new(413, message))
            }
            Ok(Err(error)) => {
                let message = format!("the body cannot be read: {error}");
                Err(Refusal::new(400, message))
            }
            Err(_) => Err(Refusal::new(408, "the body took too long to come")),
        }
    }
}

fn response(answer: &Answer) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Ok(None) => (200, Bytes::new()),
        Ok(Some(body)) => (200, Bytes::from(body.to_string())),
        Err(refusal) => (refusal.status, Bytes::from(refusal.body().to_string())),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if status == 503 {
        let soon = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, soon);
    }
    response
}

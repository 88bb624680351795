//! One completion: asked for until it is whole, whatever servers do meanwhile.

use std::time::Instant;

use vintage_control::PolicyVersion;
use vintage_settings::Partial;
use vintage_trajectory::PolicySpan;

use crate::{
    error::Error,
    fault::{Reason, ServerFault, Verdict},
    reply::{Ask, End, LabelSpan, Limits, Reply},
    server::Server,
    servers::Servers,
    swap::held,
    transport::Transport,
};

/// Number of wrong replies to one completion after which its group is given up.
const WRONG_REPLIES: u32 = 4;
/// Number of servers that may go out of service with one completion before its group is given up: it
/// may be the reason.
const BROKEN_SERVERS: u32 = 8;

/// Whole completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Completion {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) spans: Vec<PolicySpan>,
    /// True if a stop token ended it, false if it reached its longest length.
    pub(crate) stopped: bool,
    /// Time from the first request to the last reply, in seconds.
    pub(crate) seconds: f32,
}

/// Failure of a completion.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Completion that cannot be had, though others can.
    Completion(ServerFault),
    /// Engine that can sample nothing.
    Engine(Error),
}

/// Tokens that are sampled so far, with the versions that sampled them.
#[derive(Debug, Default)]
struct Partly {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    spans: Vec<PolicySpan>,
}

impl Partly {
    /// Appends a reply.
    ///
    /// # Errors
    /// Its version is older than that of the tokens before.
    fn append(&mut self, reply: Reply, spans: &[PolicySpan]) -> Result<(), ServerFault> {
        let offset = self.tokens.len() as i32;
        let mut joined = self.spans.clone();
        for span in spans {
            match joined.last() {
                Some(last) if last.version > span.version => {
                    let detail = format!(
                        "tokens of version {} after tokens of version {}",
                        span.version, last.version
                    );
                    return Err(ServerFault::new(Reason::MixedVersion, detail));
                }
                Some(last) if last.version == span.version => {}
                _ => joined.push(PolicySpan {
                    start: offset + span.start,
                    version: span.version,
                }),
            }
        }
        self.spans = joined;
        self.tokens.extend(reply.tokens);
        self.logprobs.extend(reply.logprobs);
        Ok(())
    }
}

/// Samples one completion of `ask`. Requests that fail for the server's reasons are repeated, at
/// another server if there is one; what a pause has cut off is continued. No version older than
/// `oldest` samples.
pub(crate) async fn complete(
    servers: &Servers,
    ask: &Ask,
    oldest: PolicyVersion,
) -> Result<Completion, Failure> {
    let began = Instant::now();
    let is_stop = |id: &u32| servers.facts.limits.stop.contains(id);
    let mut partly = Partly::default();
    let (mut wrong, mut broken) = (0, 0);
    let mut avoid = None;
    loop {
        let newest = partly.spans.last().map(|span| span.version);
        let at_least = newest.unwrap_or_else(|| servers.floor().max(oldest));
        let seat = servers
            .seat(at_least, avoid)
            .await
            .map_err(Failure::Engine)?;
        let rest = continued(ask, &partly.tokens);
        let outcome = request(servers, seat.http, &seat.server, &rest, at_least).await;
        let appended = outcome.and_then(|(reply, spans)| {
            let (end, sampled) = (reply.end, reply.tokens.len());
            partly.append(reply, &spans).map(|()| (end, sampled))
        });
        let fault = match appended {
            Ok((End::Abort, 0)) => {
                ServerFault::new(Reason::BadFinish, "aborted before the first token")
            }
            Ok((end, _)) => {
                servers.succeeded(seat.index);
                // The last token before an abort may have been the last one anyway.
                let stopped = partly.tokens.last().is_some_and(is_stop);
                if stopped || end != End::Abort || partly.tokens.len() >= ask.max_tokens {
                    return Ok(Completion {
                        tokens: partly.tokens,
                        logprobs: partly.logprobs,
                        spans: partly.spans,
                        stopped,
                        seconds: began.elapsed().as_secs_f32(),
                    });
                }
                if servers.facts.settings.partial == Partial::Again {
                    partly = Partly::default();
                }
                continue;
            }
            Err(fault) => fault,
        };
        avoid = Some(seat.index);
        if !seat.failed(&fault) {
            return Err(Failure::Completion(fault));
        }
        wrong += u32::from(fault.reason.verdict() == Verdict::Wrong);
        broken += u32::from(fault.reason.verdict() == Verdict::Broken);
        if wrong >= WRONG_REPLIES || broken >= BROKEN_SERVERS {
            return Err(Failure::Completion(fault));
        }
    }
}

/// Returns the request for the rest of a completion. Its seed is another one: a server begins its
/// draws anew, and the same draws twice would not be independent.
fn continued(ask: &Ask, tokens: &[u32]) -> Ask {
    let mut rest = ask.clone();
    rest.prompt.extend_from_slice(tokens);
    rest.max_tokens -= tokens.len();
    let turn = (tokens.len() as u32).wrapping_mul(0x9e37_79b9);
    rest.seed = (ask.seed ^ turn) & 0x7fff_ffff;
    rest
}

/// Asks a server for a completion, and returns it with the versions of its tokens.
///
/// # Errors
/// No reply, or one that fails a check; tokens older than `at_least`, or of no version of the run.
pub(crate) async fn request(
    servers: &Servers,
    http: &Transport,
    server: &Server,
    ask: &Ask,
    at_least: PolicyVersion,
) -> Result<(Reply, Vec<PolicySpan>), ServerFault> {
    let settings = &servers.facts.settings;
    // Adapters are asked for by their label, so that tokens are of no other version.
    let asks = !settings.fixed && !server.names_versions() && server.adapter.is_none();
    let label = async || {
        if asks {
            held(http, server, settings.connect()).await
        } else {
            Ok(None)
        }
    };
    let before = label().await?;
    let body = server
        .protocol
        .body(ask, server.asked(), &servers.facts.limits.stop);
    let path = server.protocol.path();
    let reply = http.post(path, &body, settings.reply()).await;
    let reply = reply.map_err(|fault| match &server.adapter {
        // The server was started anew, or another producer has unloaded them.
        Some(label) if fault.status == Some(404) => ServerFault::new(
            Reason::StaleVersion,
            format!("{} has no adapters {label:?}: {fault}", http.url()),
        ),
        _ => fault,
    })?;
    let limits = Limits {
        context: server.context.unwrap_or(servers.facts.limits.context),
        ..servers.facts.limits.clone()
    };
    let reply = server.protocol.read(&reply, ask, &limits)?;
    let after = label().await?;
    if before != after {
        let detail = format!("weights {before:?} became {after:?} during the request");
        return Err(ServerFault::new(Reason::MixedVersion, detail));
    }
    if settings.fixed {
        let version = at_least;
        return Ok((reply, vec![PolicySpan { start: 0, version }]));
    }
    let whole = server.adapter.clone().or(after).map(|version| {
        vec![LabelSpan {
            version,
            start: 0,
            end: reply.tokens.len(),
        }]
    });
    let labels = whole.or_else(|| reply.spans.clone()).ok_or_else(|| {
        ServerFault::new(
            Reason::UnknownVersion,
            "the reply does not say which weights sampled it (weight_versions)",
        )
    })?;
    let spans = versions(servers, &labels, at_least).await?;
    Ok((reply, spans))
}

/// Reads the versions of spans.
///
/// # Errors
/// A version that the run has not published, or one older than it must be.
async fn versions(
    servers: &Servers,
    labels: &[LabelSpan],
    at_least: PolicyVersion,
) -> Result<Vec<PolicySpan>, ServerFault> {
    let mut spans: Vec<PolicySpan> = Vec::with_capacity(labels.len());
    for span in labels {
        let version = servers.facts.labels.version(&span.version).await?;
        if version < at_least {
            let detail = format!("tokens of version {version} where {at_least} is loaded");
            return Err(ServerFault::new(Reason::StaleVersion, detail));
        }
        spans.push(PolicySpan {
            start: span.start as i32,
            version,
        });
    }
    Ok(spans)
}

//! Interpretation of an S3 server's refusals, made where the response arrives.
//!
//! The `object_store` library knows a handful of statuses and treats every other refusal as a
//! server that is down: it retries eight times and finally reports that the store could not be
//! reached. A store that does not support a condition, is full or does not have the bucket would
//! answer the same for ever.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use object_store::{
    ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpService, ReqwestConnector,
    },
};

use crate::contact::Contact;

/// Longest wait for the begin of an answer to a request that sends nothing. A connection that was
/// cut would otherwise be waited for as long as the longest transfer may take.
const SILENCE: Duration = Duration::from_secs(30);
/// Length in bytes of a body that is sent at once.
const SHORT: usize = 64 << 10;

/// Cause of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Unsupported condition: the server does not implement the conditional put of a create.
    Condition,
    /// Full disk or exceeded quota.
    Room,
    /// Invalid or expired credentials.
    Access,
    /// Wrong request: its bucket, region, size and so on.
    Request,
}

/// Final refusal: the server would answer the same if the request were sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store answers {status}{}", said(.code, .message))]
pub(crate) struct Answer {
    pub(crate) refusal: Refusal,
    status: u16,
    code: String,
    message: String,
}

/// Error codes of S3, MinIO and Ceph for a full disk or an exceeded quota.
const ROOM: [&str; 4] = [
    "QuotaExceeded",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
];
/// Error codes with status 400 that concern the credentials.
const ACCESS: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
/// Error codes with status 400 that may pass on the next attempt.
const PASSING: [&str; 4] = [
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
];

impl Answer {
    /// Interprets a response; `None` if it may change or if the library recognises it.
    /// `conditional` is true for the response to a create.
    pub(crate) fn read(status: u16, conditional: bool, body: &str) -> Option<Self> {
        let code = element(body, "Code");
        let refusal = match status {
            _ if ROOM.contains(&code) => Refusal::Room,
            507 => Refusal::Room,
            400 if ACCESS.contains(&code) => Refusal::Access,
            400 if PASSING.contains(&code) => return None,
            405 | 501 if conditional => Refusal::Condition,
            404 if code == "NoSuchBucket" => Refusal::Request,
            // Statuses that the library reports well, that it is right to retry, or that mean a
            // range beyond the object.
            304 | 401 | 403 | 404 | 408 | 409 | 412 | 416 | 429 => return None,
            300..=499 | 501 | 505 => Refusal::Request,
            _ => return None,
        };
        Some(Self {
            refusal,
            status,
            code: code.to_owned(),
            message: element(body, "Message").to_owned(),
        })
    }

    /// Returns the [`Answer`] in an error's source chain, if there is one.
    pub(crate) fn behind<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(answer) = error.downcast_ref() {
                return Some(answer);
            }
            next = error.source();
        }
        None
    }
}

/// Returns the text of the first element `name` in an error's XML; empty if there is none.
fn element<'a>(body: &'a str, name: &str) -> &'a str {
    let found = body.split_once(&format!("<{name}>"));
    let text = found.and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    text.map_or("", |(text, _)| text.trim())
}

fn said(code: &str, message: &str) -> String {
    match (code, message) {
        ("", "") => String::new(),
        ("", text) | (text, "") => format!(" ({text})"),
        (code, message) => format!(" ({code}: {})", message.trim_end_matches('.')),
    }
}

/// HTTP connector of the library that also interprets refusals.
#[derive(Debug)]
pub(crate) struct Connector {
    http: ReqwestConnector,
    contact: Arc<Contact>,
}

impl Connector {
    /// Returns a connector that notes in `contact` whether the server answers.
    pub(crate) fn noting(contact: &Arc<Contact>) -> Self {
        Self {
            http: ReqwestConnector::default(),
            contact: Arc::clone(contact),
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let http = self.http.connect(options)?;
        Ok(HttpClient::new(Reading {
            http,
            contact: Arc::clone(&self.contact),
        }))
    }
}

#[derive(Debug)]
struct Reading {
    http: HttpClient,
    contact: Arc<Contact>,
}

impl Reading {
    /// Sends a request to the store, and notes whether it is answered.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri();
        let address = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or("http"),
            uri.authority().map_or("?", |authority| authority.as_str())
        );
        let sends = request.body().content_length();
        let noted = self.contact.request(&address, sends <= SHORT);
        let answer = self.http.execute(request);
        let answer = if sends == 0 {
            let answer = tokio::time::timeout(SILENCE, answer).await;
            answer.unwrap_or_else(|_| {
                let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(HttpError::new(HttpErrorKind::Timeout, silent))
            })
        } else {
            answer.await
        };
        match &answer {
            Ok(response) if response.status().is_server_error() => {
                noted.failed(format!("{address} answers {}", response.status()));
            }
            Ok(_) => noted.answered(),
            Err(error) => noted.failed(format!("{address}: {}", innermost(error))),
        }
        answer
    }
}

impl Reading {
    /// Asks the cloud's instance for a role's credentials, which is done only where no keys are set.
    async fn ask_instance(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(INSTANCE_ANSWERS, self.http.execute(request)).await;
        match answer {
            Ok(Ok(response)) => Ok(response),
            // The library does not retry errors of this kind.
            Ok(Err(_)) | Err(_) => Err(HttpError::new(HttpErrorKind::Unknown, NoKeys)),
        }
    }
}

/// Address at which an instance of a cloud gives the credentials of its role.
const INSTANCE: &str = "169.254.169.254";
/// Longest wait for its answer; it is on the same machine.
const INSTANCE_ANSWERS: Duration = Duration::from_secs(3);

/// No credentials at all: none are set, and the machine has no role that gives some.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no keys are set, and no role of this machine gives any")]
pub(crate) struct NoKeys;

impl NoKeys {
    /// Returns true if this is in an error's source chain, or a refusal at the instance's address.
    pub(crate) fn is_behind(error: &(dyn StdError + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() || error.to_string().contains(INSTANCE) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// Returns the innermost cause, without the layers of the HTTP client around it.
fn innermost(error: &HttpError) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[async_trait::async_trait]
impl HttpService for Reading {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let conditional = request.headers().contains_key("if-none-match");
        // Requests for credentials also pass here, but do not go to the store.
        let to_store = conditional || request.headers().contains_key("x-amz-content-sha256");
        let response = if to_store {
            self.send(request).await?
        } else if request.uri().host() == Some(INSTANCE) {
            self.ask_instance(request).await?
        } else {
            self.http.execute(request).await?
        };
        let status = response.status();
        if !to_store || status.is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        match Answer::read(
            status.as_u16(),
            conditional,
            &String::from_utf8_lossy(&body),
        ) {
            // The library does not retry errors of this kind.
            Some(answer) => Err(HttpError::new(HttpErrorKind::Unknown, answer)),
            None => Ok(HttpResponse::from_parts(parts, body.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, conditional: bool, code: &str) -> Option<Refusal> {
        let body = format!("<Error><Code>{code}</Code><Message>Because.</Message></Error>");
        Answer::read(status, conditional, &body).map(|answer| answer.refusal)
    }

    #[test]
    fn refusals_are_told_from_a_server_that_is_away() {
        for status in [405, 501] {
            let refused = read(status, true, "NotImplemented");
            assert_eq!(refused, Some(Refusal::Condition), "{status}");
            let refused = read(status, false, "NotImplemented");
            assert_eq!(refused, Some(Refusal::Request), "{status}");
        }
        for away in [408, 429, 500, 502, 503, 504] {
            assert_eq!(read(away, true, "SlowDown"), None, "{away}");
        }
        for known in [304, 401, 403, 404, 409, 412, 416] {
            assert_eq!(read(known, true, "Whatever"), None, "{known}");
        }
        for refused in [301, 307, 400, 411, 413, 414] {
            assert_eq!(
                read(refused, true, "Whatever"),
                Some(Refusal::Request),
                "{refused}"
            );
        }
        assert_eq!(read(400, true, "RequestTimeout"), None);
        assert_eq!(read(404, false, "NoSuchBucket"), Some(Refusal::Request));
    }

    #[test]
    fn a_full_store_and_worn_out_credentials_are_told_whatever_the_status() {
        for (status, code) in [
            (507, "XMinioStorageFull"),
            (507, ""),
            (403, "QuotaExceeded"),
            (400, "XMinioAdminBucketQuotaExceeded"),
        ] {
            assert_eq!(
                read(status, true, code),
                Some(Refusal::Room),
                "{status} {code}"
            );
        }
        assert_eq!(read(400, false, "ExpiredToken"), Some(Refusal::Access));
    }

    #[test]
    fn an_answer_is_quoted_in_its_own_words() {
        let body = "<?xml version=\"1.0\"?><Error><Code>NotImplemented</Code>\
                    <Message>A header is not implemented.</Message></Error>";
        let answer = Answer::read(501, true, body).expect("a refusal");
        let expected = "the store answers 501 (NotImplemented: A header is not implemented)";
        assert_eq!(answer.to_string(), expected);
        let bare = Answer::read(405, true, "").expect("a refusal");
        assert_eq!(bare.to_string(), "the store answers 405");
    }
}

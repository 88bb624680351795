//! What a server's answer means, read where it arrives.
//!
//! The library knows a handful of statuses and takes every other refusal for a server that is away:
//! it asks eight times more, and says in the end that the store could not be reached. A store that
//! does not know a condition, has no room or does not have the bucket answers the same for ever.

use std::error::Error as StdError;

use object_store::{
    ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpService, ReqwestConnector,
    },
};

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The condition of a create is not known here.
    Condition,
    /// No room, or over a quota.
    Room,
    /// Credentials that do not hold, or no longer.
    Access,
    /// The request as it is: its bucket, region, size…
    Request,
}

/// An answer that would be the same if the request were sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store answers {status}{}", said(.code, .message))]
pub(crate) struct Answer {
    pub(crate) refusal: Refusal,
    status: u16,
    code: String,
    message: String,
}

/// Codes of S3, MinIO and Ceph for a disk or a quota that is full.
const ROOM: [&str; 4] = [
    "QuotaExceeded",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
];
/// Codes that come with status 400 and are about who asks.
const ACCESS: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
/// Codes that come with status 400 and may be gone at the next try.
const PASSING: [&str; 4] = [
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
];

impl Answer {
    /// The answer, if it is final and the library would not tell what it means. `conditional`: to
    /// a create.
    pub(crate) fn read(status: u16, conditional: bool, body: &str) -> Option<Self> {
        let code = element(body, "Code");
        let refusal = match status {
            _ if ROOM.contains(&code) => Refusal::Room,
            507 => Refusal::Room,
            400 if ACCESS.contains(&code) => Refusal::Access,
            400 if PASSING.contains(&code) => return None,
            405 | 501 if conditional => Refusal::Condition,
            404 if code == "NoSuchBucket" => Refusal::Request,
            // What the library names itself, what it rightly tries again, and a range that an
            // object does not have.
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

    /// The answer behind an error, if there is one.
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

/// The text of the first such element of an error's XML; empty if there is none.
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

/// Connects as the library does, and reads the answers.
#[derive(Debug, Default)]
pub(crate) struct Connector(ReqwestConnector);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Reading(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Reading(HttpClient);

#[async_trait::async_trait]
impl HttpService for Reading {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let conditional = request.headers().contains_key("if-none-match");
        // Requests for credentials go this way too, and are none of a store's.
        let to_store = conditional || request.headers().contains_key("x-amz-content-sha256");
        let response = self.0.execute(request).await?;
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
            // Of this kind the library tries none again.
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

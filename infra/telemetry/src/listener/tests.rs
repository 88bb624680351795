use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Mutex, PoisonError},
};

use super::*;

/// Process whose verdict a test sets.
#[derive(Default)]
struct Scripted {
    stalled: Mutex<Option<String>>,
}

impl Scripted {
    fn verdict(&self) -> Result<String, String> {
        let stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        stalled.clone().map_or_else(|| Ok("ok".to_owned()), Err)
    }
}

impl Status for Scripted {
    fn health(&self) -> Result<String, String> {
        self.verdict()
    }
    fn readiness(&self) -> Result<String, String> {
        Err("waiting for grants".to_owned())
    }
    fn live(&self) -> String {
        r#"{"role":"learner"}"#.to_owned()
    }
    fn page(&self) -> String {
        "<!doctype html>".to_owned()
    }
}

/// Sends a request and returns head and body of the answer.
fn ask(at: SocketAddr, request: &str) -> (String, String) {
    let mut connection = TcpStream::connect(at).expect("a listener");
    connection.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

fn get(at: SocketAddr, path: &str) -> (String, String) {
    ask(
        at,
        &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    )
}

// One test: a process has one recorder of metrics.
#[test]
fn endpoints_answer_and_everything_else_is_refused() {
    let status = Arc::new(Scripted::default());
    let local: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let at = serve(local, Arc::clone(&status) as Arc<dyn Status>).expect("served");
    assert_ne!(at.port(), 0);
    ::metrics::counter!(vintage_control::Metric::GROUPS_PRODUCED.name).increment(3);

    let (head, body) = get(at, "/metrics");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("vintage_groups_produced_total 3"), "{body}");
    let (head, body) = get(at, "/healthz?verbose");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    *status.stalled.lock().expect("set") = Some("no update for 50 s".to_owned());
    let (head, body) = get(at, "/healthz");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "no update for 50 s\n");
    let (head, body) = get(at, "/readyz");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "waiting for grants\n");
    let (head, body) = get(at, "/live.json");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, r#"{"role":"learner"}"#);
    let (head, body) = get(at, "/");
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    assert_eq!(body, "<!doctype html>");

    let (head, body) = get(at, "/secret");
    assert!(head.starts_with("http/1.1 404"), "{head}");
    assert!(body.contains("there is no /secret here"), "{body}");
    let (head, _) = ask(
        at,
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(head.starts_with("http/1.1 405"), "{head}");
    assert!(head.contains("allow: get, head"), "{head}");
    let (head, body) = ask(at, "HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "");
    let (head, body) = ask(at, "GET /live.json HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert!(head.starts_with("http/1.1 421"), "{head}");
    assert!(body.contains("on loopback"), "{body}");
    let long = "x".repeat(2 * HEAD);
    let (head, _) = get(at, &format!("/{long}"));
    assert!(head.starts_with("http/1.1 4"), "{head}");

    let refused = serve(at, status).expect_err("the address is taken");
    assert!(matches!(refused, Error::Listen { address, .. } if address == at));
}

#[test]
fn only_names_of_this_machine_are_local() {
    for local in [
        "localhost",
        "LocalHost:9400",
        "127.0.0.1:9400",
        "127.1.2.3",
        "[::1]:9400",
        "[::1]",
    ] {
        assert!(is_local(local.as_bytes()), "{local}");
    }
    for foreign in [
        "evil.example",
        "localhost.evil.example:9400",
        "10.0.0.1:9400",
        "[::2]",
        "\u{fffd}",
    ] {
        assert!(!is_local(foreign.as_bytes()), "{foreign}");
    }
}

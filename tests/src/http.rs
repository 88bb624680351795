//! Endpoints of a process under test: a port for them, and what they answer.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result, ensure};

/// Ports for processes under test: below those of local brokers (20000 to 31999) and those that the
/// kernel takes for outgoing connections, of which tests make many.
const PORTS: std::ops::Range<u16> = 15_000..20_000;

/// Returns a free port of loopback. No other call in this process returns the same one, because the
/// process that is to listen does so only later.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(PORTS.start);
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    let free = ports
        .by_ref()
        .take_while(|port| PORTS.contains(port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.with_context(|| format!("no free port in {PORTS:?}"))
}

/// Answer of an endpoint.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Body.
    pub body: String,
}

/// Asks for a path of the endpoints at a port of loopback.
pub fn get(port: u16, path: &str) -> Result<Answer> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// Returns the metrics that a process serves at a port of loopback, as text.
pub fn metrics(port: u16) -> Result<String> {
    let answer = get(port, "/metrics")?;
    ensure!(answer.status == 200, "{}\n{}", answer.head, answer.body);
    Ok(answer.body)
}

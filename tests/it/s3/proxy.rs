//! A proxy between a client and an S3 server: it removes a header, loses an answer or gives one of
//! its own.

use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;

/// Treatment of a request by the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    /// Passed on without its `If-None-Match`.
    Unconditional,
    /// Executed by the server, whose answer is dropped.
    Unanswered,
    /// Answered with a status of the proxy's own.
    Refused(&'static str),
    /// Answered with a status of the proxy's own if it has an `If-None-Match`, else passed on.
    ConditionRefused(&'static str),
    /// Answered with a status and an S3 error of that code.
    Erroneous(&'static str, &'static str),
}

/// Decides on a request by its method and the number of earlier requests of that method.
pub(super) type Judge = fn(method: &str, before: u64) -> Fate;

pub(super) struct Proxy {
    pub(super) port: u16,
    puts: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy that passes requests on to `server`, as `judge` decides.
    pub(super) fn before(server: u16, judge: Judge) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let puts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&puts);
        // Ends with the process: it waits for connections that stop coming.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let puts = Arc::clone(&counted);
                std::thread::spawn(move || {
                    // A client that hangs up has all it wanted.
                    let _hung_up = serve(&client, server, judge, &puts);
                });
            }
        });
        Ok(Self { port, puts })
    }

    /// Number of writes that the proxy has seen.
    pub(super) fn puts(&self) -> u64 {
        self.puts.load(Ordering::Acquire)
    }
}

fn serve(mut client: &TcpStream, server: u16, judge: Judge, puts: &AtomicU64) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let Some(head) = head(&mut reader)? else {
            return Ok(());
        };
        let method = head[0].split(' ').next().unwrap_or_default();
        let before = if method == "PUT" {
            puts.fetch_add(1, Ordering::AcqRel)
        } else {
            0
        };
        let mut body = vec![0; length(&head)];
        reader.read_exact(&mut body)?;
        let fate = judge(method, before);
        let is_conditional = head
            .iter()
            .any(|line| line.to_ascii_lowercase().starts_with("if-none-match:"));
        let refusal = match fate {
            Fate::Refused(status) => Some((status, String::new())),
            Fate::ConditionRefused(status) if is_conditional => Some((status, String::new())),
            Fate::Erroneous(status, code) => {
                let said = format!("<Error><Code>{code}</Code><Message>No.</Message></Error>");
                Some((status, said))
            }
            _ => None,
        };
        if let Some((status, said)) = refusal {
            let length = said.len();
            write!(
                client,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{said}"
            )?;
            continue;
        }
        let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
        for line in &head {
            let name = line.split(':').next().unwrap_or_default();
            let dropped = name.eq_ignore_ascii_case("connection")
                || fate == Fate::Unconditional && name.eq_ignore_ascii_case("if-none-match");
            if !dropped {
                write!(upstream, "{line}\r\n")?;
            }
        }
        write!(upstream, "Connection: close\r\n\r\n")?;
        upstream.write_all(&body)?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        if fate == Fate::Unanswered {
            return Ok(());
        }
        client.write_all(&answer)?;
    }
}

/// Reads the lines of a request's head; `None` at the end of the connection.
fn head(reader: &mut impl io::BufRead) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => return Ok(Some(lines)),
            line => lines.push(line.to_owned()),
        }
    }
}

fn length(head: &[String]) -> usize {
    let value = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

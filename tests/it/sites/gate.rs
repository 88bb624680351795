//! A passage to a server that can be shut: then connections end at once.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;

pub(crate) struct Gate {
    pub(crate) port: u16,
    shut: Arc<AtomicBool>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    /// Opens a passage to the server at a port of loopback.
    pub(crate) fn before(server: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let gate = Self {
            port: listener.local_addr()?.port(),
            shut: Arc::default(),
            passing: Arc::default(),
        };
        let (shut, passing) = (Arc::clone(&gate.shut), Arc::clone(&gate.passing));
        // Ends with the process: it waits for connections that stop coming.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !shut.load(Ordering::Acquire) {
                    // A client that hangs up has all it wanted.
                    let _hung_up = pass(client, server, &passing);
                }
            }
        });
        Ok(gate)
    }

    /// Ends every connection, and those to come.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::Release);
        for stream in held(&self.passing).drain(..) {
            let _ended_already = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections pass again.
    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::Release);
    }
}

fn held(passing: &Mutex<Vec<TcpStream>>) -> MutexGuard<'_, Vec<TcpStream>> {
    passing.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass(client: TcpStream, server: u16, passing: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    held(passing).extend([client.try_clone()?, server.try_clone()?]);
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (mut from_server, mut to_client) = (server, client);
    std::thread::spawn(move || {
        let _ended = io::copy(&mut from_client, &mut to_server);
        let _ended_already = to_server.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ended = io::copy(&mut from_server, &mut to_client);
        let _ended_already = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

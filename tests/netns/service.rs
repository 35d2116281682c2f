//! The service on every host: it answers with its own name, the address that it
//! saw, and what was said.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::Namespace;

/// The service's port, on UDP and TCP.
pub(super) const PORT: u16 = 7;

/// How often a service looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// The longest datagram that fits into 16 bits of length, and then some.
pub(super) const LONGEST: usize = 65_536;

/// A service over UDP and TCP, on all addresses of a host.
#[derive(Debug)]
pub(super) struct Service {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    stop: AtomicBool,
    heard: Mutex<Vec<Heard>>,
}

/// Something that was said to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// By whom.
    pub(super) from: SocketAddr,
    /// What, or nothing for a TCP connection that was accepted.
    pub(super) text: String,
}

impl Service {
    /// Starts one.
    pub(super) fn start(namespace: &Namespace, name: &'static str) -> Self {
        let shared = Shared {
            name,
            stop: AtomicBool::new(false),
            heard: Mutex::default(),
        };
        let shared = Arc::new(shared);
        // A socket on `::` takes IPv4 as well (ipv6(7), net.ipv6.bindv6only).
        let (udp, tcp) = namespace.run(|| {
            (
                UdpSocket::bind(("::", PORT)),
                TcpListener::bind(("::", PORT)),
            )
        });
        let (udp, tcp) = (
            udp.expect("the port is free"),
            tcp.expect("the port is free"),
        );
        udp.set_read_timeout(Some(TICK))
            .expect("a timeout can be set");
        let (one, other) = (shared.clone(), shared.clone());
        let threads = vec![
            std::thread::spawn(move || one.answer_datagrams(&udp)),
            std::thread::spawn(move || other.accept(&tcp)),
        ];
        Self { shared, threads }
    }

    /// All that was said to it so far.
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.shared
            .heard
            .lock()
            .expect("nobody panics with it")
            .clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn answer(&self, from: SocketAddr, said: &[u8]) -> Vec<u8> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let text = String::from_utf8_lossy(said).into_owned();
        self.heard
            .lock()
            .expect("nobody panics with it")
            .push(Heard { from, text });
        let mut answer = format!("{} saw {}: ", self.name, from.ip()).into_bytes();
        answer.extend_from_slice(said);
        answer
    }

    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; LONGEST];
        while !self.stopped() {
            // Errors are timeouts, and ICMP errors that answers brought on.
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&self.answer(from, &buffer[..length]), from);
            }
        }
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.stopped() {
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(TICK).expect("it is short");
            if poll(&mut ready, timeout).is_ok_and(|count| count > 0)
                && let Ok((stream, from)) = listener.accept()
            {
                let shared = self.clone();
                std::thread::spawn(move || shared.answer_lines(&stream, from));
            }
        }
    }

    fn answer_lines(&self, stream: &TcpStream, from: SocketAddr) {
        self.answer(from, b"");
        let _ = stream.set_read_timeout(Some(TICK));
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while !self.stopped() {
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    let mut stream = stream;
                    if stream.write_all(&self.answer(from, &line)).is_err() {
                        return;
                    }
                    line.clear();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

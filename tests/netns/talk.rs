//! Who asks: questions, conversations that last, and echo requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lab::Host;
use super::namespace::{BRIEFLY, PATIENCE};
use super::service::{LONGEST, PORT};

/// UDP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

pub(super) use Transport::{Tcp, Udp};

impl Transport {
    pub(super) const BOTH: [Transport; 2] = [Udp, Tcp];
}

/// What an answer says, but for what was asked: `host_a saw 198.51.100.1`.
pub(super) fn saw(host: &Host, address: IpAddr) -> Result<String, ErrorKind> {
    Ok(format!("{} saw {address}", host.name))
}

impl Host {
    /// Asks the service at an address who it is and whom it sees.
    pub(super) fn ask(&self, transport: Transport, to: IpAddr) -> Result<String, ErrorKind> {
        self.converse(transport, to)?.say()
    }

    /// The same where no answer is expected.
    pub(super) fn ask_briefly(
        &self,
        transport: Transport,
        to: IpAddr,
    ) -> Result<String, ErrorKind> {
        let mut conversation = self.try_converse(transport, to, BRIEFLY)?;
        conversation.say()
    }

    /// Begins a conversation with the service at an address.
    pub(super) fn converse(
        &self,
        transport: Transport,
        to: IpAddr,
    ) -> Result<Conversation, ErrorKind> {
        self.try_converse(transport, to, PATIENCE)
    }

    /// Asks whoever is at a port of an address.
    pub(super) fn ask_port(
        &self,
        transport: Transport,
        to: IpAddr,
        port: u16,
    ) -> Result<String, ErrorKind> {
        self.converse_with(transport, SocketAddr::new(to, port), PATIENCE)?
            .say()
    }

    /// The same where no answer is expected.
    pub(super) fn ask_port_briefly(
        &self,
        transport: Transport,
        to: IpAddr,
        port: u16,
    ) -> Result<String, ErrorKind> {
        self.converse_with(transport, SocketAddr::new(to, port), BRIEFLY)?
            .say()
    }

    /// Begins a conversation with whoever is at a port of an address.
    pub(super) fn converse_port(
        &self,
        transport: Transport,
        to: IpAddr,
        port: u16,
    ) -> Result<Conversation, ErrorKind> {
        self.converse_with(transport, SocketAddr::new(to, port), PATIENCE)
    }

    fn try_converse(
        &self,
        transport: Transport,
        to: IpAddr,
        patience: Duration,
    ) -> Result<Conversation, ErrorKind> {
        self.converse_with(transport, SocketAddr::new(to, PORT), patience)
    }

    fn converse_with(
        &self,
        transport: Transport,
        to: SocketAddr,
        patience: Duration,
    ) -> Result<Conversation, ErrorKind> {
        let socket = self.run(|| Socket::connect(transport, to, patience));
        Ok(Conversation {
            socket: socket.map_err(kind)?,
            patience,
            tag: next_tag(),
            said: 0,
        })
    }
}

/// Names that no other conversation of this process has.
fn next_tag() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn kind(error: std::io::Error) -> ErrorKind {
    match error.kind() {
        // What a socket with a timeout says when it has passed.
        ErrorKind::WouldBlock => ErrorKind::TimedOut,
        other => other,
    }
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(BufReader<TcpStream>),
}

impl Socket {
    fn connect(transport: Transport, to: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        match transport {
            Udp => {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                Ok(Socket::Udp(socket))
            }
            Tcp => {
                let stream = TcpStream::connect_timeout(&to, patience)?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(BufReader::with_capacity(LONGEST, stream)))
            }
        }
    }

    fn try_clone(&self) -> std::io::Result<Self> {
        Ok(match self {
            Socket::Udp(socket) => Socket::Udp(socket.try_clone()?),
            Socket::Tcp(reader) => Socket::Tcp(BufReader::new(reader.get_ref().try_clone()?)),
        })
    }

    fn local(&self) -> SocketAddr {
        let address = match self {
            Socket::Udp(socket) => socket.local_addr(),
            Socket::Tcp(reader) => reader.get_ref().local_addr(),
        };
        address.expect("a connected socket has an address")
    }

    fn set_patience(&self, patience: Duration) {
        let patience = Some(patience.max(Duration::from_millis(1)));
        match self {
            Socket::Udp(socket) => socket.set_read_timeout(patience),
            Socket::Tcp(reader) => reader.get_ref().set_read_timeout(patience),
        }
        .expect("a timeout can be set");
    }

    fn send(&mut self, text: &str) -> std::io::Result<()> {
        match self {
            Socket::Udp(socket) => socket.send(text.as_bytes()).map(drop),
            Socket::Tcp(reader) => reader.get_mut().write_all(format!("{text}\n").as_bytes()),
        }
    }

    /// The next answer; what came of a line before a timeout is in `line`.
    fn receive(&mut self, line: &mut Vec<u8>) -> std::io::Result<String> {
        match self {
            Socket::Udp(socket) => {
                let mut buffer = vec![0; LONGEST];
                // A machine that was suspended wakes up so (signal(7)).
                let length = loop {
                    match socket.recv(&mut buffer) {
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        received => break received?,
                    }
                };
                Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }
            Socket::Tcp(reader) => {
                if reader.read_until(b'\n', line)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                let answer = String::from_utf8_lossy(line).trim_end().to_owned();
                line.clear();
                Ok(answer)
            }
        }
    }
}

/// A flow: one socket, on which things are said and answered.
#[derive(Debug)]
pub(super) struct Conversation {
    socket: Socket,
    patience: Duration,
    tag: u64,
    said: u64,
}

impl Conversation {
    /// Begins every sentence of this conversation, and of no other.
    pub(super) fn tag(&self) -> String {
        format!("<{}>", self.tag)
    }

    /// The client's own end.
    pub(super) fn local(&self) -> SocketAddr {
        self.socket.local()
    }

    /// Waits for answers only so long from now on.
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Says something and returns the answer to it, without what was said.
    pub(super) fn say(&mut self) -> Result<String, ErrorKind> {
        self.say_long(0)
    }

    /// The same in at least so many bytes.
    pub(super) fn say_long(&mut self, bytes: usize) -> Result<String, ErrorKind> {
        let text = self.next(bytes);
        self.socket.send(&text).map_err(kind)?;
        self.answer_to(&text)
    }

    /// Says something and does not wait for an answer.
    pub(super) fn mention(&mut self) -> Result<(), ErrorKind> {
        let text = self.next(0);
        self.socket.send(&text).map_err(kind)
    }

    fn next(&mut self, bytes: usize) -> String {
        self.said += 1;
        let text = format!("{}{} ", self.tag(), self.said);
        let padding = bytes.saturating_sub(text.len());
        text + &"x".repeat(padding) + "."
    }

    fn answer_to(&mut self, text: &str) -> Result<String, ErrorKind> {
        let deadline = Instant::now() + self.patience;
        let mut line = Vec::new();
        loop {
            self.socket
                .set_patience(deadline.saturating_duration_since(Instant::now()));
            let answer = self.socket.receive(&mut line).map_err(kind)?;
            if let Some((answer, said)) = answer.split_once(": ")
                && said == text
            {
                return Ok(answer.to_owned());
            }
            if Instant::now() > deadline {
                return Err(ErrorKind::TimedOut);
            }
        }
    }

    /// Goes on talking, beside the test, until it is told to end.
    pub(super) fn keep_talking(self) -> Flow {
        Flow::start(self)
    }
}

/// A conversation that goes on beside the test.
#[derive(Debug)]
pub(super) struct Flow {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<BTreeMap<u64, String>>>,
    sender: JoinHandle<(u64, Option<ErrorKind>)>,
    receiver: JoinHandle<Option<ErrorKind>>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Report {
    /// How much was said.
    pub(super) said: u64,
    /// The answers, by what they answer.
    pub(super) answers: BTreeMap<u64, String>,
    /// What ended the conversation, if it was not the test.
    pub(super) ended_by: Option<ErrorKind>,
}

impl Report {
    /// What was said and never answered.
    pub(super) fn unanswered(&self) -> Vec<u64> {
        (1..=self.said)
            .filter(|number| !self.answers.contains_key(number))
            .collect()
    }

    /// Asserts that everything was answered, and by nobody else.
    pub(super) fn assert_whole(&self, answer: &Result<String, ErrorKind>, what: &str) {
        let answer = answer.as_ref().expect("it is an answer");
        assert_eq!(self.ended_by, None, "{what}: the flow ended");
        let unanswered = self.unanswered();
        assert!(
            unanswered.is_empty(),
            "{what}: of {} {} were lost: {unanswered:?}",
            self.said,
            unanswered.len()
        );
        let wrong: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, text)| *text != answer)
            .collect();
        assert!(wrong.is_empty(), "{what}: not {answer:?}: {wrong:?}");
    }
}

impl Flow {
    /// How long between two sentences.
    const PACE: Duration = Duration::from_millis(3);

    fn start(mut conversation: Conversation) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let said = Arc::new(AtomicU64::new(0));
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let mut socket = conversation
            .socket
            .try_clone()
            .expect("a socket can be copied");
        let sender = std::thread::spawn({
            let (stop, said) = (stop.clone(), said.clone());
            // What was said before has been answered before.
            conversation.said = 0;
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let text = conversation.next(0);
                    if let Err(error) = conversation.socket.send(&text) {
                        return (conversation.said - 1, Some(kind(error)));
                    }
                    said.store(conversation.said, Ordering::Relaxed);
                    std::thread::sleep(Self::PACE);
                }
                (conversation.said, None)
            }
        });
        let receiver = std::thread::spawn({
            let (stop, answers) = (stop.clone(), answers.clone());
            move || collect(&mut socket, &stop, &said, &answers)
        });
        Self {
            stop,
            answers,
            sender,
            receiver,
        }
    }

    /// How many answers there are so far.
    pub(super) fn answered(&self) -> usize {
        self.answers.lock().expect("nobody panics with it").len()
    }

    /// Waits for so many more answers.
    pub(super) fn wait_for_more(&self, answers: usize) {
        let already = self.answered();
        super::namespace::eventually("a flow goes on", || self.answered() >= already + answers);
    }

    /// Stops talking, waits for the last answers, and says what became of it.
    pub(super) fn end(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let (said, failure) = self.sender.join().expect("it does not panic");
        let ended_by = self.receiver.join().expect("it does not panic").or(failure);
        let answers = self.answers.lock().expect("nobody panics with it").clone();
        Report {
            said,
            answers,
            ended_by,
        }
    }
}

/// Collects answers until all have come, or none comes any more.
fn collect(
    socket: &mut Socket,
    stop: &AtomicBool,
    said: &AtomicU64,
    answers: &Mutex<BTreeMap<u64, String>>,
) -> Option<ErrorKind> {
    socket.set_patience(Duration::from_millis(50));
    let mut line = Vec::new();
    let mut last = Instant::now();
    loop {
        match socket.receive(&mut line).map_err(kind) {
            Ok(answer) => {
                last = Instant::now();
                let (head, said) = answer
                    .split_once(": ")
                    .expect("an answer repeats what was said");
                let (_, number) = said.split_once('>').expect("what is said has a tag");
                let number = number
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok());
                let mut answers = answers.lock().expect("nobody panics with it");
                answers.insert(number.expect("what is said has a number"), head.to_owned());
            }
            Err(ErrorKind::TimedOut) => {}
            // An ICMP error does not end a flow of datagrams.
            Err(
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable,
            ) if matches!(socket, Socket::Udp(_)) => {}
            Err(error) => return Some(error),
        }
        if stop.load(Ordering::Relaxed) {
            let answered = answers.lock().expect("nobody panics with it").len() as u64;
            if answered >= said.load(Ordering::Relaxed)
                && last.elapsed() > Duration::from_millis(50)
                || last.elapsed() > Duration::from_secs(3)
            {
                return None;
            }
        }
    }
}

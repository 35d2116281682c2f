//! A program on a terminal, and a person before it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A program that is talked to.
#[derive(Debug)]
pub(super) struct Conversation {
    child: Child,
    stdin: Option<ChildStdin>,
    pieces: Receiver<Vec<u8>>,
    heard: String,
}

impl Conversation {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Only systemd-run's own words, when a box goes down beneath it.
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter is installed");
        let stdin = child.stdin.take();
        let mut stdout = child.stdout.take().expect("it is piped");
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Conversation {
            child,
            stdin,
            pieces,
            heard: String::new(),
        }
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(super) fn hear(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.heard.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.heard.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => panic!("it never said {text:?}, but: {:?}", self.heard),
            }
        }
    }

    /// The same of what it says from now on: what was heard is forgotten.
    #[track_caller]
    pub(super) fn hear_next(&mut self, text: &str) {
        self.hear(text);
        let end = self.heard.find(text).map_or(0, |at| at + text.len());
        self.heard.drain(..end);
    }

    /// Types a password.
    #[track_caller]
    pub(super) fn type_line(&mut self, line: &str) {
        assert!(
            self.try_to_type(line),
            "it listens no more: {:?}",
            self.heard
        );
    }

    /// Types a password, and tells whether anybody was there to read it. What is
    /// typed before the terminal is told not to echo, just after the question, is
    /// echoed and then thrown away (TCSAFLUSH): it is typed again.
    #[track_caller]
    pub(super) fn try_to_type(&mut self, line: &str) -> bool {
        for _ in 0..30 {
            std::thread::sleep(Duration::from_millis(200));
            while let Ok(piece) = self.pieces.try_recv() {
                self.heard.push_str(&String::from_utf8_lossy(&piece));
            }
            let before = self.heard.len();
            let stdin = self.stdin.as_mut().expect("it listens until `end`");
            if writeln!(stdin, "{line}").is_err() {
                return false;
            }
            let deadline = Instant::now() + Duration::from_millis(300);
            while self.heard.len() < before + line.len() {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.pieces.recv_timeout(left) {
                    Ok(piece) => self.heard.push_str(&String::from_utf8_lossy(&piece)),
                    Err(_) => break,
                }
            }
            if !self.heard[before..].starts_with(line) {
                return true;
            }
        }
        panic!("the terminal shows passwords: {:?}", self.heard);
    }

    /// Waits for its end, and tells how it ended and all that it said.
    pub(super) fn end(mut self) -> (ExitStatus, String) {
        while let Ok(piece) = self.pieces.recv_timeout(PATIENCE) {
            self.heard.push_str(&String::from_utf8_lossy(&piece));
        }
        drop(self.stdin.take());
        let status = self.child.wait().expect("it was started");
        (status, std::mem::take(&mut self.heard))
    }
}

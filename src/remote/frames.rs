//! Messages out of bytes: JSON, each ended by a NUL (UAPI.20).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at once.
const CHUNK: usize = 4_096;

/// What comes in, cut into messages.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    /// What was read and is not taken yet.
    pending: Vec<u8>,
    /// How much of it has no end mark.
    looked_at: usize,
    /// How long a message may be, its end mark not counted.
    most: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R, most: usize) -> Self {
        Self {
            reader,
            pending: Vec::new(),
            looked_at: 0,
            most,
        }
    }

    /// Where it comes from.
    pub(super) fn reader(&self) -> &R {
        &self.reader
    }

    /// Whether a message has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether no more fits.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() > self.most
    }

    /// Reads what is there, or waits for it; false at the end. Can be dropped
    /// while it waits.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let length = self.reader.read(&mut chunk).await?;
        self.pending.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }

    /// The next message, its end mark included, if all of it is there.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let unseen = &self.pending[self.looked_at..];
        let Some(end) = unseen.iter().position(|byte| *byte == 0) else {
            self.looked_at = self.pending.len();
            return None;
        };
        let rest = self.pending.split_off(self.looked_at + end + 1);
        self.looked_at = 0;
        Some(std::mem::replace(&mut self.pending, rest))
    }
}

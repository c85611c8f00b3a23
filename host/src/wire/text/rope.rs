//! Bytes that wait for what becomes of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces of bytes in order, which are taken off at the front without being copied.
#[derive(Debug, Default)]
pub(super) struct Rope {
    pieces: VecDeque<Bytes>,
    /// How many bytes at the front are to go out as they are: together, so that they stay in few pieces.
    run: usize,
}

impl Rope {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Lets so many bytes go with the next flush.
    pub(super) fn pass(&mut self, len: usize) {
        self.run += len;
    }

    /// Appends the bytes that may go.
    pub(super) fn flush(&mut self, out: &mut Vec<Bytes>) {
        while let Some(piece) = self.next(self.run) {
            self.run -= piece.len();
            out.push(piece);
        }
    }

    /// Appends all there is.
    pub(super) fn flush_all(&mut self, out: &mut Vec<Bytes>) {
        out.extend(self.pieces.drain(..));
        self.run = 0;
    }

    /// Takes so many bytes as one piece, behind those that may go.
    pub(super) fn take(&mut self, len: usize, out: &mut Vec<Bytes>) -> Bytes {
        self.flush(out);
        let first = self.next(len).unwrap_or_default();
        if first.len() == len {
            return first;
        }
        let mut whole = BytesMut::with_capacity(len);
        whole.extend_from_slice(&first);
        while let Some(piece) = self.next(len - whole.len()) {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }

    /// Drops so many bytes, behind those that may go.
    pub(super) fn skip(&mut self, mut len: usize, out: &mut Vec<Bytes>) {
        self.flush(out);
        while let Some(piece) = self.next(len) {
            len -= piece.len();
        }
    }

    /// Takes the first piece, or so much of it; none if that is nothing.
    fn next(&mut self, len: usize) -> Option<Bytes> {
        let front = self.pieces.front_mut().filter(|_| len > 0)?;
        if front.len() > len { Some(front.split_to(len)) } else { self.pieces.pop_front() }
    }
}

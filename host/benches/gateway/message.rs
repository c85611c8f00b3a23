//! As much of HTTP/1.1 as the load and the mock need: where a message ends and how long its body is. One message at a time, no pipelining.

use memchr::memmem;

use crate::Result;

/// A message as it arrives, in any pieces.
#[derive(Default)]
pub(crate) struct Message {
    head: Vec<u8>,
    framing: Framing,
    body_len: u64,
}

#[derive(Clone, Copy, Default)]
enum Framing {
    /// The head is not complete.
    #[default]
    Unknown,
    /// Bytes still to come.
    Sized(u64),
    ChunkSize(u64),
    /// Bytes of this chunk still to come.
    ChunkData(u64),
    ChunkEnd,
    /// Length so far of a trailer line; an empty line ends the message.
    Trailer(usize),
    Complete,
}

impl Message {
    /// Takes the next bytes; true when the message is complete.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) -> Result<bool> {
        if let Framing::Unknown = self.framing {
            bytes = self.take_head(bytes)?;
        }
        while !bytes.is_empty() {
            bytes = self.take_body(bytes)?;
        }
        if let Framing::Sized(0) = self.framing {
            self.framing = Framing::Complete;
        }
        Ok(matches!(self.framing, Framing::Complete))
    }

    /// The start line and the headers; empty until they are complete.
    pub(crate) fn head(&self) -> &[u8] {
        if let Framing::Unknown = self.framing { &[] } else { &self.head }
    }

    /// Body bytes so far, without their framing.
    pub(crate) fn body_len(&self) -> u64 {
        self.body_len
    }

    /// Forgets the message but keeps its buffer.
    pub(crate) fn reset(&mut self) {
        self.head.clear();
        self.framing = Framing::Unknown;
        self.body_len = 0;
    }

    fn take_head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        const END: &[u8] = b"\r\n\r\n";
        let held = self.head.len();
        let from = held.saturating_sub(END.len() - 1);
        // All but never is a head in two pieces; only then is more copied than the head.
        let end = if held == 0 {
            memmem::find(bytes, END).map(|at| at + END.len())
        } else {
            self.head.extend_from_slice(bytes);
            let end = memmem::find(&self.head[from..], END).map(|at| from + at + END.len() - held);
            self.head.truncate(held);
            end
        };
        let (head, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.head.extend_from_slice(head);
        if end.is_some() {
            self.framing = framing(&self.head)?;
        }
        Ok(rest)
    }

    fn take_body<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let (byte, rest) = (bytes[0], &bytes[1..]);
        self.framing = match (self.framing, byte) {
            (Framing::Sized(left), _) if left > 0 => return Ok(self.take_data(bytes, left, Framing::Sized)),
            (Framing::ChunkData(left), _) => return Ok(self.take_data(bytes, left, chunk_rest)),
            (Framing::ChunkSize(0), b'\n') => Framing::Trailer(0),
            (Framing::ChunkSize(size), b'\n') => Framing::ChunkData(size),
            (Framing::ChunkEnd, b'\n') => Framing::ChunkSize(0),
            (Framing::Trailer(0), b'\n') => Framing::Complete,
            (Framing::Trailer(_), b'\n') => Framing::Trailer(0),
            (Framing::Trailer(len), byte) if byte != b'\r' => Framing::Trailer(len + 1),
            (state @ (Framing::ChunkSize(_) | Framing::ChunkEnd | Framing::Trailer(_)), b'\r') => state,
            (Framing::ChunkSize(size), byte) => Framing::ChunkSize(size * 16 + hex(byte)?),
            _ => return Err(format!("unexpected byte {byte:#04x} in or after a message").into()),
        };
        Ok(rest)
    }

    fn take_data<'b>(&mut self, bytes: &'b [u8], left: u64, next: fn(u64) -> Framing) -> &'b [u8] {
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.body_len += taken as u64;
        self.framing = next(left - taken as u64);
        &bytes[taken..]
    }
}

fn chunk_rest(left: u64) -> Framing {
    if left == 0 { Framing::ChunkEnd } else { Framing::ChunkData(left) }
}

fn hex(byte: u8) -> Result<u64> {
    char::from(byte)
        .to_digit(16)
        .map(u64::from)
        .ok_or_else(|| format!("byte {byte:#04x} in a chunk size").into())
}

fn framing(head: &[u8]) -> Result<Framing> {
    let head = std::str::from_utf8(head)?;
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(Framing::Sized(value.trim().parse()?));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Framing::ChunkSize(0));
        }
    }
    Ok(Framing::Sized(0))
}

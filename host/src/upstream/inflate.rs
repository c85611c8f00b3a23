//! Undoing an upstream's `content-encoding` where the gateway has to read the answer.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// The most that one push may give, in bytes: a few hundred of them can hold a gigabyte of nothing.
const PUSH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many encoded bytes are undone between two looks at how much they gave.
const STEP_BYTES: usize = 4 * 1024;

/// Undoes one encoding, chunk by chunk.
pub(crate) enum Inflate {
    /// `gzip`, of one or more members. Source: RFC 9110, section 8.4.1.3, and RFC 1952, section 2.2.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// `deflate`, which is the zlib format. Source: RFC 9110, section 8.4.1.2.
    Deflate(Box<ZlibDecoder<Vec<u8>>>),
}

impl Inflate {
    /// Prepares to undo the encoding of this name; none when this program does not know it.
    pub(crate) fn new(encoding: &str) -> Option<Self> {
        if encoding.eq_ignore_ascii_case("gzip") || encoding.eq_ignore_ascii_case("x-gzip") {
            Some(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))))
        } else if encoding.eq_ignore_ascii_case("deflate") {
            Some(Self::Deflate(Box::new(ZlibDecoder::new(Vec::new()))))
        } else {
            None
        }
    }

    /// Takes encoded bytes, gives what they hold.
    ///
    /// # Errors
    ///
    /// The bytes are not of this encoding, or hold more than [`PUSH_BYTES_MAX`].
    pub(crate) fn push(&mut self, encoded: &[u8]) -> io::Result<Bytes> {
        for step in encoded.chunks(STEP_BYTES) {
            if self.step(step)? > PUSH_BYTES_MAX {
                return Err(io::Error::other("the answer inflates beyond 16 MiB in one piece"));
            }
        }
        Ok(std::mem::take(self.decoded()).into())
    }

    /// Undoes a few bytes; says how many are decoded and not yet taken.
    fn step(&mut self, encoded: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(encoded).and_then(|()| decoder.flush())?,
            Self::Deflate(decoder) => decoder.write_all(encoded).and_then(|()| decoder.flush())?,
        }
        Ok(self.decoded().len())
    }

    fn decoded(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        }
    }

    /// Gives what is left, at the end.
    ///
    /// # Errors
    ///
    /// The encoded bytes broke off.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
        }
        .map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    #[track_caller]
    fn check(encoding: &str, encoded: &[u8], text: &[u8]) {
        for split in 0..=encoded.len() {
            let mut inflate = Inflate::new(encoding).unwrap();
            let mut decoded = inflate.push(&encoded[..split]).unwrap().to_vec();
            decoded.extend(inflate.push(&encoded[split..]).unwrap());
            decoded.extend(inflate.finish().unwrap());
            assert_eq!(decoded, text, "split at {split}");
        }
    }

    #[test]
    fn a_text_comes_back_from_every_split() {
        let text = b"data: {\"choices\":[]}\n\ndata: [DONE]\n\n".repeat(3);
        check("gzip", &gzip(&text), &text);
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(&text).unwrap();
        check("deflate", &deflate.finish().unwrap(), &text);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Inflate::new("gzip").unwrap().push(b"no gzip at all").is_err());
        assert!(Inflate::new("br").is_none());
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_are_read_as_one_text() {
        let encoded = [gzip(b"data: 1\n\n"), gzip(b""), gzip(b"data: 2\n\n")].concat();
        check("gzip", &encoded, b"data: 1\n\ndata: 2\n\n");
    }

    #[test]
    fn a_bomb_is_an_error_before_it_fills_the_memory() {
        let bomb = gzip(&vec![0; PUSH_BYTES_MAX + 1]);
        let (first, second) = bomb.split_at(bomb.len() / 2);
        let mut inflate = Inflate::new("gzip").unwrap();
        assert!(inflate.push(first).is_ok() && inflate.push(second).is_ok(), "each piece is small enough");
        let mut inflate = Inflate::new("gzip").unwrap();
        assert!(inflate.push(&bomb).is_err());
    }
}

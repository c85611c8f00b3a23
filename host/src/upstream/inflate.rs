//! Undoing an upstream's `content-encoding` where the gateway has to read the answer.

use std::io::Write;

use bytes::Bytes;
use flate2::write::{GzDecoder, ZlibDecoder};

/// Undoes one encoding, chunk by chunk.
pub(crate) enum Inflate {
    /// `gzip`. Source: RFC 9110, section 8.4.1.3.
    Gzip(Box<GzDecoder<Vec<u8>>>),
    /// `deflate`, which is the zlib format. Source: RFC 9110, section 8.4.1.2.
    Deflate(Box<ZlibDecoder<Vec<u8>>>),
}

impl Inflate {
    /// Prepares to undo the encoding of this name; none when this program does not know it.
    pub(crate) fn new(encoding: &str) -> Option<Self> {
        if encoding.eq_ignore_ascii_case("gzip") || encoding.eq_ignore_ascii_case("x-gzip") {
            Some(Self::Gzip(Box::new(GzDecoder::new(Vec::new()))))
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
    /// The bytes are not of this encoding.
    pub(crate) fn push(&mut self, encoded: &[u8]) -> std::io::Result<Bytes> {
        let decoded = match self {
            Self::Gzip(decoder) => {
                decoder.write_all(encoded)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Self::Deflate(decoder) => {
                decoder.write_all(encoded)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
        };
        Ok(decoded.into())
    }

    /// Gives what is left, at the end.
    ///
    /// # Errors
    ///
    /// The encoded bytes broke off.
    pub(crate) fn finish(self) -> std::io::Result<Bytes> {
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
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text).unwrap();
        check("gzip", &gzip.finish().unwrap(), &text);
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(&text).unwrap();
        check("deflate", &deflate.finish().unwrap(), &text);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Inflate::new("gzip").unwrap().push(b"no gzip at all").is_err());
        assert!(Inflate::new("br").is_none());
    }
}

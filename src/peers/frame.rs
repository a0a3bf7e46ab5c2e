//! What goes over a connection: frames, each of a kind, with a number by which an answer finds its question.
//!
//! ```text
//! length of what follows, 4 bytes │ kind, 1 byte │ number, 8 bytes │ body
//! ```
//! Numbers are little-endian. The first frame of either side is its greeting, so a frame before that is short.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What stands before a body.
pub const HEAD_BYTES: usize = 13;

/// The longest body before both sides have greeted, and of whatever is no request or answer: a table of members at its limit fits.
pub const GREETING_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who speaks, and what it knows: the first frame of each side.
    Hello = 1,
    /// Why nothing more is said: the last frame.
    Refused = 2,
    /// A question of consensus.
    Request = 3,
    Answer = 4,
    /// The question of this number is not answered.
    Unanswered = 5,
    /// What a node knows of the members. Says that it lives, too, and is answered by [`Self::Heard`].
    Gossip = 6,
    Heard = 7,
    /// A node without a certificate asks to be admitted.
    Join = 8,
    Admitted = 9,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub number: u64,
    pub body: Bytes,
}

/// What is read before the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    kind: Kind,
    number: u64,
    body_bytes: usize,
}

impl Kind {
    const ALL: [Self; 9] =
        [Self::Hello, Self::Refused, Self::Request, Self::Answer, Self::Unanswered, Self::Gossip, Self::Heard, Self::Join, Self::Admitted];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The longest body of this kind.
    fn bytes_max(self, bytes_max: usize) -> usize {
        match self {
            Self::Request | Self::Answer => bytes_max,
            _ => bytes_max.min(GREETING_BYTES_MAX),
        }
    }
}

impl Head {
    fn decode(bytes: [u8; HEAD_BYTES], bytes_max: usize) -> io::Result<Self> {
        let ([length @ .., _, _, _, _, _, _, _, _, _], [_, _, _, _, kind, number @ ..]) = (bytes, bytes);
        let kind = Kind::of(kind).ok_or_else(|| invalid("a frame of a kind that is not known"))?;
        let length = u32::from_le_bytes(length) as usize;
        let body_bytes = length.checked_sub(HEAD_BYTES - 4).ok_or_else(|| invalid("a frame shorter than its head"))?;
        if body_bytes > kind.bytes_max(bytes_max) {
            return Err(invalid("a frame longer than is taken"));
        }
        Ok(Self { kind, number: u64::from_le_bytes(number), body_bytes })
    }

    fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let length = u32::try_from(self.body_bytes + HEAD_BYTES - 4).expect("a frame's limit is below 4 GiB");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[5..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

impl Frame {
    pub fn new(kind: Kind, number: u64, body: impl Into<Bytes>) -> Self {
        Self { kind, number, body: body.into() }
    }

    /// Reads one. `bytes_max` is the longest body that is taken.
    ///
    /// # Errors
    /// Those of the connection, and `InvalidData` for what is no frame.
    pub async fn read(from: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Self> {
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head).await?;
        let Head { kind, number, body_bytes } = Head::decode(head, bytes_max)?;
        let mut body = BytesMut::zeroed(body_bytes);
        from.read_exact(&mut body).await?;
        Ok(Self { kind, number, body: body.freeze() })
    }

    /// Writes it, not flushed.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let head = Head { kind: self.kind, number: self.number, body_bytes: self.body.len() };
        to.write_all(&head.encode()).await?;
        to.write_all(&self.body).await
    }
}

pub fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], bytes_max: usize) -> io::Result<Frame> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Frame::read(&mut &*bytes, bytes_max))
    }

    fn written(frame: &Frame) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bytes = Vec::new();
        runtime.block_on(frame.write(&mut bytes)).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for kind in Kind::ALL {
            for body in [&b""[..], b"body"] {
                let frame = Frame::new(kind, u64::MAX - 1, body);
                assert_eq!(read(&written(&frame), 4).unwrap(), frame);
            }
        }
    }

    #[test]
    fn a_body_above_its_limit_is_refused_before_it_is_read() {
        let bytes = written(&Frame::new(Kind::Request, 1, &b"12345"[..]));
        assert!(read(&bytes, 5).is_ok());
        assert_eq!(read(&bytes[..HEAD_BYTES], 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let greeting = Head { kind: Kind::Hello, number: 0, body_bytes: GREETING_BYTES_MAX + 1 };
        assert_eq!(read(&greeting.encode(), usize::MAX).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64), length in 0..40u32, kind in 0..12u8) {
            let _ = read(&bytes, 1 << 20);
            let framed = [&length.to_le_bytes()[..], &[kind], &bytes].concat();
            if let Ok(frame) = read(&framed, 1 << 20) {
                let again = written(&frame);
                prop_assert_eq!(&again[..], &framed[..again.len()]);
            }
        }
    }
}

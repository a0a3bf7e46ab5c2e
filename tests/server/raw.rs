//! A plain socket: bytes as they are, for what a WebSocket library would not send.

use crate::server::PATIENCE;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub struct RawSocket {
    stream: TcpStream,
}

/// A server's frame.
#[derive(Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawSocket {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        stream.set_nodelay(true).expect("the socket is open");
        Self { stream }
    }

    /// Sends bytes. A server that has closed meanwhile does not matter: what it said is read afterwards.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Upgrades to a subprotocol and sends CONNECT in its form.
    pub fn connect(&mut self, protocol: &str) {
        self.upgrade(protocol);
        match protocol {
            "tidewire.1" => self.send(&masked(0x82, &[0x01, 2, 1, 1])),
            _ => self.send(&masked(0x81, br#"{"op":"connect","id":1}"#)),
        }
        self.read_frame();
    }

    pub fn upgrade(&mut self, protocol: &str) {
        self.send(upgrade_request("/tidewire", protocol).as_bytes());
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Reads up to and with the empty line.
    pub fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a head comes");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("a head is text")
    }

    /// A packet of MQTT of less than 128 bytes behind its head.
    pub fn read_packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.stream.read_exact(&mut packet).expect("a packet comes");
        packet.resize(2 + usize::from(packet[1]), 0);
        self.stream.read_exact(&mut packet[2..]).expect("a packet is whole");
        packet
    }

    pub fn read_frame(&mut self) -> RawFrame {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame comes");
        let length = match head[1] {
            126 => self.read_number::<2>(),
            127 => self.read_number::<8>(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("a frame is whole");
        RawFrame { opcode: head[0] & 15, payload }
    }

    fn read_number<const N: usize>(&mut self) -> usize {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).expect("a head is whole");
        bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Reads frames up to the close frame and its code, then to the end of the stream.
    pub fn read_close(&mut self) -> u16 {
        loop {
            let frame = self.read_frame();
            if frame.opcode == 8 {
                self.read_to_end();
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
    }

    /// Everything up to the end of the stream; a reset is an end too, because the server may close with our bytes unread.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the server does not end the connection"),
        }
        bytes
    }
}

/// A client's frame with this first byte, masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    out.extend(mask);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    out
}

pub fn upgrade_request(path: &str, protocol: &str) -> String {
    let protocol = if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    )
}

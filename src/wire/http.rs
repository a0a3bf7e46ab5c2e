//! The HTTP head that every connection starts with: a WebSocket upgrade, or a plain request for the admin pages.

use super::authorization::Authorization;
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// The page that says whether the server is there, and the one that tells of its work.
pub const HEALTH: &str = "/health";
pub const LATENCY: &str = "/latency";

/// What a connection's first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of it.
    pub length: usize,
    /// The host, and mostly the port, that the client asks; only HTTP/1.0 need not say it.
    pub host: Option<String>,
    /// Whose page asks. Only browsers say it.
    pub origin: Option<String>,
    /// For whom proxies on the way ask: all of `X-Forwarded-For`, as it is said.
    pub forwarded: Option<String>,
    /// What is shown for who asks.
    pub authorization: Option<Authorization>,
    pub asks: Asks,
}

/// What they ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asks {
    Upgrade(Upgrade),
    Request(Request),
}

/// A WebSocket handshake (RFC 6455 section 4.2.1) that may be accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    pub path: String,
    pub accept_key: String,
    /// The subprotocols offered, in the client's order.
    pub protocols: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
}

/// The peer's head cannot be used: the status and the reason to answer with.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

/// Parses the head that `bytes` starts with, of at most so many fields; `None` while it is incomplete.
pub fn parse_head(bytes: &[u8], fields_max: usize) -> Result<Option<Head>, Refusal> {
    let mut headers = vec![httparse::EMPTY_HEADER; fields_max];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal { status: 431, reason: "more header fields than limits.http_fields_max" });
        }
        Err(_) => return Err(Refusal { status: 400, reason: "not an HTTP/1.1 request" }),
    };
    let method = request.method.unwrap_or_default().to_owned();
    let (authority, path) = split_target(request.path.unwrap_or_default());
    let path = path.split(['?', '#']).next().unwrap_or_default().to_owned();
    let (host, origin) = (single(request.headers, "host")?, single(request.headers, "origin")?);
    let forwarded = joined(request.headers, "x-forwarded-for");
    let authorization = single_value(request.headers, "authorization")?.map(Authorization::parse);
    // RFC 9112 section 3.2: a request of HTTP/1.1 without Host is answered with 400.
    if host.is_none() && request.version != Some(0) {
        return Err(Refusal { status: 400, reason: "a request of HTTP/1.1 needs a Host" });
    }
    let asks = if has_token(request.headers, "upgrade", "websocket") {
        Asks::Upgrade(Upgrade { path, ..upgrade(&method, request.version, request.headers)? })
    } else {
        Asks::Request(Request { method, path })
    };
    // RFC 9112 section 3.2.2: the authority of an absolute URI stands in place of Host.
    Ok(Some(Head { length, host: authority.map(str::to_owned).or(host), origin, forwarded, authorization, asks }))
}

/// A request may name its resource by an absolute URI (RFC 9112 section 3.2.2): its authority, and the part behind it, which is meant.
fn split_target(target: &str) -> (Option<&str>, &str) {
    let Some((scheme, rest)) = target.split_once("://") else { return (None, target) };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return (None, target);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    (Some(&rest[..end]), if end < rest.len() { &rest[end..] } else { "/" })
}

/// The value of a field that is there once at most: of two, somebody on the way might have looked at the other.
fn single_value<'a>(headers: &[httparse::Header<'a>], name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let mut named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let first = named.next().map(|header| header.value.trim_ascii());
    match named.next() {
        Some(_) => Err(Refusal { status: 400, reason: "Host, Origin or Authorization is there twice" }),
        None => Ok(first),
    }
}

/// The same as text.
fn single(headers: &[httparse::Header<'_>], name: &str) -> Result<Option<String>, Refusal> {
    Ok(single_value(headers, name)?.map(|value| String::from_utf8_lossy(value).into_owned()))
}

/// The texts of a field that may be there several times, which means one list.
fn joined(headers: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let texts: Vec<_> = named.map(|header| String::from_utf8_lossy(header.value)).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn upgrade(method: &str, version: Option<u8>, headers: &[httparse::Header<'_>]) -> Result<Upgrade, Refusal> {
    let refuse = |status, reason| Err(Refusal { status, reason });
    if method != "GET" || version != Some(1) {
        return refuse(400, "a WebSocket handshake is an HTTP/1.1 GET");
    }
    if !has_token(headers, "connection", "upgrade") {
        return refuse(400, "a WebSocket handshake needs 'Connection: Upgrade'");
    }
    if find(headers, "sec-websocket-version") != Some(b"13") {
        return refuse(426, "this server speaks WebSocket version 13");
    }
    let key = find(headers, "sec-websocket-key").unwrap_or_default();
    if base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key).map(|k| k.len()) != Ok(16) {
        return refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64");
    }
    let protocols = tokens(headers, "sec-websocket-protocol").map(str::to_owned).collect();
    Ok(Upgrade { path: String::new(), accept_key: derive_accept_key(key), protocols })
}

fn find<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
}

fn tokens<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
    named.flat_map(|h| std::str::from_utf8(h.value).unwrap_or_default().split(',')).map(str::trim).filter(|t| !t.is_empty())
}

fn has_token(headers: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

/// Appends the answer that accepts an upgrade.
pub fn put_switching(out: &mut Vec<u8>, accept_key: &str, protocol: &str) {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

/// Appends a whole response; the connection closes behind it.
pub fn put_response(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8]) {
    let fields = match status {
        // A browser asks its user for a name and a password. RFC 6750 section 3: tokens are named too.
        401 => "WWW-Authenticate: Basic realm=\"tidewire\", charset=\"UTF-8\"\r\nWWW-Authenticate: Bearer realm=\"tidewire\"\r\n",
        426 => "Sec-WebSocket-Version: 13\r\n",
        _ => "",
    };
    put(out, status, format_args!("{fields}Content-Type: {content_type}\r\n"), body);
}

/// Appends the response that it cannot be said now: the client comes again in so many milliseconds at the earliest.
pub fn put_later(out: &mut Vec<u8>, wait_ms: u64, body: &[u8]) {
    // RFC 9110 section 10.2.3: in seconds.
    let wait_s = wait_ms.div_ceil(1000).max(1);
    put(out, 503, format_args!("Retry-After: {wait_s}\r\nContent-Type: text/plain; charset=utf-8\r\n"), body);
}

fn put(out: &mut Vec<u8>, status: u16, fields: fmt::Arguments<'_>, body: &[u8]) {
    let name = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let head = format!(
        "HTTP/1.1 {status} {name}\r\n{fields}Content-Length: {}\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: &str = "GET /tidewire?x HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, tidewire.1\r\n\r\n";

    #[test]
    fn the_handshake_of_the_rfc_is_accepted() {
        let Ok(Some(Head { length, host, origin: None, forwarded: None, authorization: None, asks: Asks::Upgrade(upgrade) })) =
            parse_head(HANDSHAKE.as_bytes(), 64)
        else {
            panic!()
        };
        assert_eq!((length, host.as_deref()), (HANDSHAKE.len(), Some("h")));
        assert_eq!(upgrade.path, "/tidewire");
        assert_eq!(upgrade.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(upgrade.protocols, ["a", "tidewire.1"]);
    }

    #[test]
    fn a_cut_head_waits() {
        for cut in 0..HANDSHAKE.len() {
            assert_eq!(parse_head(&HANDSHAKE.as_bytes()[..cut], 64), Ok(None));
        }
    }

    #[test]
    fn broken_handshakes_are_refused_with_a_status() {
        for (from, to, status) in [
            ("GET", "POST", 400),
            ("Host: h\r\n", "", 400),
            ("Host: h\r\n", "Host: h\r\nHost: h\r\n", 400),
            ("Host: h\r\n", "Host: h\r\nOrigin: a\r\nOrigin: b\r\n", 400),
            ("Host: h\r\n", "Host: h\r\nAuthorization: Bearer a\r\nauthorization: Bearer a\r\n", 400),
            ("keep-alive, Upgrade", "keep-alive", 400),
            ("Version: 13", "Version: 8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("HTTP/1.1", "HTTQ", 400),
        ] {
            let got = parse_head(HANDSHAKE.replace(from, to).as_bytes(), 64);
            assert_eq!(got.map_err(|r| r.status), Err(status), "{to}");
        }
    }

    #[test]
    fn an_absolute_target_means_its_path() {
        for (target, path, host) in [
            ("http://h/health?now", "/health", "h"),
            ("HTTPS://h:1/a/b", "/a/b", "h:1"),
            ("http://h", "/", "h"),
            ("http://h?a", "?a", "h"),
            ("ftp://h/a", "ftp://h/a", "of-the-field"),
            ("/a?b=http://h/c", "/a", "of-the-field"),
        ] {
            let head = parse_head(format!("GET {target} HTTP/1.1\r\nHost: of-the-field\r\n\r\n").as_bytes(), 64).unwrap().unwrap();
            let path = path.split('?').next().unwrap().to_owned();
            assert_eq!(head.asks, Asks::Request(Request { method: "GET".into(), path }), "{target}");
            assert_eq!(head.host.as_deref(), Some(host), "{target}");
        }
    }

    #[test]
    fn other_requests_keep_their_method_and_path() {
        let head = parse_head(b"GET /health?now HTTP/1.0\r\norigin:  null \r\n\r\n", 64).unwrap().unwrap();
        assert_eq!(head.asks, Asks::Request(Request { method: "GET".into(), path: "/health".into() }));
        assert_eq!((head.host, head.origin.as_deref()), (None, Some("null")));
    }

    #[test]
    fn what_proxies_say_in_several_fields_is_one_list() {
        let head = parse_head(b"GET / HTTP/1.0\r\nX-Forwarded-For: a, b\r\nx-forwarded-for: c\r\n\r\n", 64).unwrap().unwrap();
        assert_eq!(head.forwarded.as_deref(), Some("a, b,c"));
    }

    #[test]
    fn who_asks_is_read_of_the_field() {
        let head = parse_head(b"GET / HTTP/1.0\r\nauthorization:  Bearer a.b \r\n\r\n", 64).unwrap().unwrap();
        assert_eq!(head.authorization, Some(Authorization::parse(b"Bearer a.b")));
        assert!(!format!("{head:?}").contains("a.b"));
    }

    #[test]
    fn who_has_to_come_later_is_told_a_whole_number_of_seconds() {
        for (wait_ms, wait_s) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3)] {
            let mut out = Vec::new();
            put_later(&mut out, wait_ms, b"later");
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with("HTTP/1.1 503 ") && text.contains(&format!("\r\nRetry-After: {wait_s}\r\n")), "{text}");
        }
    }
}

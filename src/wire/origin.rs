//! Hosts and origins, as requests of HTTP name them, and which of them may ask.
//!
//! A browser lets a page of any origin open a WebSocket to any server that the browser reaches, one on its own host too. It says whose page it is, by
//! `Origin` (RFC 6454), and which name the server was reached by, by `Host`. So a page of another origin is refused, or whoever opens a page could
//! lose by it what only this host reaches. A name that is not the server's is refused too: who owns a name may let it point to this host (DNS
//! rebinding), and then a page of that name is of the server's own origin. Clients that are no browsers say no origin, and go on.

use super::forwarded::Networks;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Which names a server has, whose pages may ask, and which proxies tell for whom they ask. The default is for a server that only its own host reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebRules {
    pub hosts: Hosts,
    pub origins: Origins,
    pub proxies: Networks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    Any,
    /// Those of loopback, which no stranger's page comes by, and these; at any port.
    Named(Arc<[Host]>),
}

/// Beside those that are the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    Listed(Arc<[Origin]>),
}

/// The host of a URI, in the one way to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    /// In lower case, without the dot of the root.
    Name(Box<str>),
}

/// Whose a page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Web {
        is_secure: bool,
        host: Host,
        port: u16,
    },
    /// Of another scheme, as it is written; `null` where the browser does not say.
    Other(Box<str>),
}

/// What of a request is foreign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The server has no such name.
    Host,
    /// The page is of another origin.
    Page,
}

impl WebRules {
    /// Whether a request may ask, by what it says in `Host` and `Origin`.
    pub fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), Foreign> {
        let authority = host.and_then(parse_authority);
        if !self.hosts.have(host.is_some(), authority.as_ref().map(|(host, _)| host)) {
            return Err(Foreign::Host);
        }
        match (&self.origins, origin) {
            (Origins::Any, _) | (_, None) => Ok(()),
            (Origins::Listed(listed), Some(text)) => {
                let origin = Origin::parse(text).ok_or(Foreign::Page)?;
                let is_own = authority.is_some_and(|(host, port)| origin.is_at(&host, port));
                if is_own || listed.contains(&origin) { Ok(()) } else { Err(Foreign::Page) }
            }
        }
    }
}

impl Hosts {
    /// Reads names as an operator lists them; `*` is any. What is wrong with them, if anything is.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.iter().any(|text| text == "*") {
            return Ok(Self::Any);
        }
        let host = |text: &String| match parse_authority(text) {
            Some((host, None)) => Ok(host),
            Some((_, Some(_))) => Err(format!("`{text}` has a port: a name counts at every port")),
            None => Err(format!("`{text}` is no host")),
        };
        Ok(Self::Named(texts.iter().map(host).collect::<Result<_, _>>()?))
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Named(names) if names.is_empty())
    }

    /// Browsers always say which host they mean: a request that does not is none of a page's.
    fn have(&self, is_said: bool, host: Option<&Host>) -> bool {
        match self {
            Self::Any => true,
            Self::Named(_) if !is_said => true,
            Self::Named(names) => host.is_some_and(|host| host.is_loopback() || names.contains(host)),
        }
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self::Named(Arc::default())
    }
}

impl Origins {
    /// Reads origins as an operator lists them; `*` is any. What is wrong with them, if anything is.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.iter().any(|text| text == "*") {
            return Ok(Self::Any);
        }
        let origin = |text: &String| {
            Origin::parse(text).ok_or_else(|| format!("`{text}` is no origin: it has a scheme, and nothing behind its host and port"))
        };
        Ok(Self::Listed(texts.iter().map(origin).collect::<Result<_, _>>()?))
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self::Listed(Arc::default())
    }
}

impl Host {
    fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => &**name == "localhost",
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Other(text.into()));
        }
        let (scheme, rest) = text.split_once("://")?;
        let (scheme, is_plain) =
            (scheme.to_ascii_lowercase(), rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte)));
        if scheme.is_empty() || !is_plain {
            return None;
        }
        let is_secure = scheme == "https";
        if !is_secure && scheme != "http" {
            return Some(Self::Other(format!("{scheme}://{rest}").into()));
        }
        let (host, port) = parse_authority(rest)?;
        Some(Self::Web { is_secure, host, port: port.unwrap_or(default_port(is_secure)) })
    }

    /// Whether it is what a request came by that names this host and port. The server does not know whether TLS ended in front of it.
    fn is_at(&self, of: &Host, at: Option<u16>) -> bool {
        match self {
            Self::Web { is_secure, host, port } => host == of && *port == at.unwrap_or(default_port(*is_secure)),
            Self::Other(_) => false,
        }
    }
}

fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// A host and its port, where one is written (RFC 3986 section 3.2).
fn parse_authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            (Host::Address(address.parse::<Ipv6Addr>().ok()?.into()), if rest.is_empty() { "" } else { rest.strip_prefix(':')? })
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, ""));
            (parse_name(name)?, port)
        }
    };
    match port {
        "" => Some((host, None)),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, Some(digits.parse().ok()?))),
        _ => None,
    }
}

fn parse_name(name: &str) -> Option<Host> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Ok(address) = name.parse() {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    is_name.then(|| Host::Name(name.to_ascii_lowercase().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: &[&str], origins: &[&str]) -> WebRules {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (hosts, origins) = (Hosts::parse(&owned(hosts)).expect("hosts"), Origins::parse(&owned(origins)).expect("origins"));
        WebRules { hosts, origins, ..WebRules::default() }
    }

    fn check_host(host: &str, is_own: bool) {
        let expected = if is_own { Ok(()) } else { Err(Foreign::Host) };
        assert_eq!(rules(&["Tide.Example."], &[]).check(Some(host), None), expected, "{host}");
    }

    #[test]
    fn the_names_of_loopback_and_those_listed_are_the_servers() {
        for own in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "localhost.:1",
            "localhost:",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "tide.example",
            "TIDE.example.:443",
        ] {
            check_host(own, true);
        }
        for foreign in [
            "",
            "example",
            "evil.tide.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "[::2]",
            "::1",
            "[::1",
            "[::1]8080",
            "localhost:x",
            "localhost:65536",
            "localhost:+1",
            "localhost@evil",
            "2130706433",
            "..",
            "lo calhost",
            "0.0.0.0",
        ] {
            check_host(foreign, false);
        }
        assert_eq!(rules(&[], &[]).check(None, None), Ok(()), "only browsers have to be told from others, and they say it");
        assert_eq!(rules(&["*"], &[]).check(Some("anything at all"), None), Ok(()));
    }

    /// Whether a page of `origin` may ask where it came by `host`.
    fn check_page(host: &str, origin: &str, may_ask: bool) {
        let listed = ["http://localhost:3000", "https://App.Example", "chrome-extension://abc", "http://[::1]"];
        let expected = if may_ask { Ok(()) } else { Err(Foreign::Page) };
        assert_eq!(rules(&["*"], &listed).check(Some(host), Some(origin)), expected, "{origin} by {host}");
    }

    #[test]
    fn a_page_of_the_same_origin_may_ask() {
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("LOCALHOST:8080", "HTTP://localhost:8080"),
            ("localhost.:8080", "http://localhost:8080"),
            ("tide.example", "http://tide.example"),
            ("tide.example:80", "http://tide.example"),
            ("tide.example", "http://tide.example:80"),
            ("tide.example", "https://tide.example"),
            ("tide.example:443", "https://tide.example"),
            ("[::1]:8080", "http://[0::1]:8080"),
        ] {
            check_page(host, origin, true);
        }
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8081"),
            ("localhost:8080", "http://127.0.0.1:8080"),
            ("localhost:8080", "http://localhost"),
            ("tide.example", "http://tide.example:443"),
            ("tide.example:80", "https://tide.example"),
            ("tide.example", "http://tide.example.evil"),
            ("tide.example", "http://user@tide.example"),
            ("tide.example", "ftp://tide.example"),
            ("tide.example", "tide.example"),
            ("tide.example", ""),
            ("null", "null"),
            ("", "file://"),
            ("[::1]:8080", "http://[::1]:8081"),
        ] {
            check_page(host, origin, false);
        }
    }

    #[test]
    fn a_page_of_an_origin_that_is_listed_may_ask() {
        for origin in
            ["http://localhost:3000", "http://LOCALHOST.:3000", "https://app.example:443", "chrome-extension://abc", "http://[::1]:80"]
        {
            check_page("localhost:8080", origin, true);
        }
        for origin in
            ["https://localhost:3000", "http://app.example", "chrome-extension://ABC", "http://localhost:30000", "http://localhost:3000/"]
        {
            check_page("localhost:8080", origin, false);
        }
        assert_eq!(rules(&[], &[]).check(None, Some("http://localhost:3000")), Err(Foreign::Page), "of no host is no page");
        assert_eq!(rules(&[], &["null"]).check(Some("localhost"), Some("null")), Ok(()));
        assert_eq!(rules(&[], &["*"]).check(Some("localhost"), Some("anything at all")), Ok(()));
    }

    #[test]
    fn what_is_no_host_and_no_origin_cannot_be_listed() {
        let owned = |text: &str| vec![text.to_owned()];
        for text in ["", "a:80", "http://a", "a/b", "[a]"] {
            assert!(Hosts::parse(&owned(text)).is_err(), "{text}");
        }
        for text in ["", "a", "http://", "http://a/", "http://a b", "://a", "http://a:x"] {
            assert!(Origins::parse(&owned(text)).is_err(), "{text}");
        }
    }
}

//! Whose a request is that came by proxies: the networks whose word on that counts, and what they say in `X-Forwarded-For`.
//!
//! Anybody can write the field, so it is read from its end: each proxy writes behind it who asked it. The first address there that
//! is not one of the trusted proxies' is the client's; what stands before it is only what the client said.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Addresses that belong together, such as a proxy's; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Arc<[Network]>);

/// The first `bits` of its addresses are those of `address`, where IPv4 stands mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u128,
    bits: u32,
}

impl Networks {
    /// Reads networks as an operator lists them, `10.0.0.0/8` or an address alone. What is wrong with them, if anything is.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| Network::parse(text).ok_or_else(|| format!("`{text}` is no network such as 10.0.0.0/8 or fd00::/8"));
        Ok(Self(texts.iter().map(network).collect::<Result<_, _>>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contain(&self, address: IpAddr) -> bool {
        let address = number(address);
        self.0.iter().any(|network| (network.address ^ address).checked_shr(128 - network.bits).unwrap_or(0) == 0)
    }

    /// Whose the request is that came from `peer` with this `X-Forwarded-For`, several of the field joined by commas; `peer`'s own, unless that is a trusted
    /// proxy that says something else.
    pub fn client(&self, peer: IpAddr, forwarded: &str) -> IpAddr {
        let mut client = peer;
        let mut said = forwarded.rsplit(',');
        while self.contain(client) {
            // What is no address, a trusted proxy does not know either.
            let Some(before) = said.next().and_then(parse_address) else { break };
            client = before;
        }
        client
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let mapped = if address.is_ipv4() { 96 } else { 0 };
        let bits = match bits {
            None => 128,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                mapped + bits.parse::<u32>().ok().filter(|bits| *bits <= 128 - mapped)?
            }
            Some(_) => return None,
        };
        Some(Self { address: number(address), bits })
    }
}

fn number(address: IpAddr) -> u128 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    address.to_bits()
}

/// An address as proxies write it, some with a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(in_brackets).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).expect("networks")
    }

    fn check_contain(network: &str, address: &str, expected: bool) {
        assert_eq!(networks(&[network]).contain(address.parse().expect("an address")), expected, "{network} {address}");
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        check_contain("10.0.0.0/8", "10.255.0.1", true);
        check_contain("10.0.0.0/8", "11.0.0.1", false);
        check_contain("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check_contain("127.0.0.1", "127.0.0.1", true);
        check_contain("127.0.0.1", "127.0.0.2", false);
        check_contain("0.0.0.0/0", "1.2.3.4", true);
        check_contain("0.0.0.0/0", "2001:db8::1", false);
        check_contain("::/0", "1.2.3.4", true);
        check_contain("fd00::/8", "fdff::1", true);
        check_contain("fd00::/8", "fe00::1", false);
        assert!(!Networks::default().contain(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in ["", "x", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "10.0.0.0/8/8", "localhost"] {
            let wrong = Networks::parse(&[text.to_owned()]).unwrap_err();
            assert_eq!(wrong, format!("`{text}` is no network such as 10.0.0.0/8 or fd00::/8"));
        }
    }

    fn check_client(peer: &str, forwarded: &str, client: &str) {
        let trusted = networks(&["10.0.0.0/8", "::1"]);
        assert_eq!(trusted.client(peer.parse().unwrap(), forwarded), client.parse::<IpAddr>().unwrap(), "{peer}: {forwarded}");
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        check_client("1.1.1.1", "2.2.2.2", "1.1.1.1");
        check_client("10.0.0.1", "2.2.2.2", "2.2.2.2");
        check_client("10.0.0.1", "3.3.3.3, 2.2.2.2", "2.2.2.2");
        check_client("10.0.0.1", "3.3.3.3, 2.2.2.2 ,10.0.0.2", "2.2.2.2");
        check_client("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3");
        check_client("10.0.0.1", "", "10.0.0.1");
        check_client("10.0.0.1", "2.2.2.2, unknown", "10.0.0.1");
        check_client("10.0.0.1", "2.2.2.2, unknown, 10.0.0.2", "10.0.0.2");
        check_client("::1", "[2001:db8::1]:443", "2001:db8::1");
        check_client("::1", "2.2.2.2:80", "2.2.2.2");
        check_client("::1", "[2001:db8::1]", "2001:db8::1");
        check_client("::1", "::ffff:2.2.2.2", "2.2.2.2");
    }
}

//! How it is found out who asks: the chain of authenticators, and what each needs. `default.toml` says what each setting means.

use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// In the order in which they are asked.
    pub chain: Vec<Authenticator>,
    /// The principals that the server knows.
    pub principals_file: Option<PathBuf>,
    pub questions_max: usize,
    pub wait_ms: u64,
    pub credentials_bytes_max: usize,
    pub failures: Failures,
    pub passwords: Passwords,
    pub control: Control,
    pub jwt: Jwt,
    pub webhook: Webhook,
    pub certificates: Vec<NameRoles>,
}

impl Authentication {
    /// The names of authenticators that are sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().filter_map(|link| match link {
            Authenticator::Control(name) => Some(&**name),
            _ => None,
        })
    }

    /// How long the chain may take over one question: each of it may wait, and then ask somebody else.
    pub fn answer_ms_max(&self) -> u64 {
        let asking_ms = self.control.timeout_ms.max(self.webhook.timeout_ms);
        self.chain.len() as u64 * (self.wait_ms + asking_ms)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authenticator {
    Principals,
    Jwt,
    Certificate,
    Webhook,
    /// Sessions that register by this name.
    Control(Box<str>),
}

/// Whether sessions may be authenticators by this name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(|letter: char| letter == '/' || letter.is_control())
}

const NAME_BYTES_MAX: usize = 128;

impl Authenticator {
    pub const TAKES: &str = "a list of different ones of \"principals\", \"jwt\", \"certificate\", \"webhook\" and \"control:NAME\"";

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "principals" => Self::Principals,
            "jwt" => Self::Jwt,
            "certificate" => Self::Certificate,
            "webhook" => Self::Webhook,
            _ => Self::Control(text.strip_prefix("control:").filter(|name| is_name(name))?.into()),
        })
    }

    pub fn parse_chain(texts: &[String]) -> Result<Vec<Self>, String> {
        let mut chain = Vec::new();
        for text in texts {
            let link = Self::parse(text).ok_or_else(|| format!("there is no {text:?}"))?;
            if chain.contains(&link) {
                return Err(format!("{text:?} stands twice"));
            }
            chain.push(link);
        }
        Ok(chain)
    }
}

/// How often an address and a principal may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    pub address_max: u32,
    pub address_per_minute: u32,
    pub principal_max: u32,
    pub principal_per_minute: u32,
    pub entries_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    pub threads: usize,
    pub waiting_max: usize,
    pub cache_ms: u64,
    pub cache_max: usize,
}

/// What becomes of a question whose authenticator cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    Deny,
    Abstain,
}

impl Unavailable {
    pub const ALL: [Self; 2] = [Self::Deny, Self::Abstain];
    /// The names in the file, in the order of `ALL`.
    pub const NAMES: [&str; 2] = ["deny", "abstain"];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub timeout_ms: u64,
    pub waiting_max: usize,
    pub unavailable: Unavailable,
}

/// A property's name, and the claim that it is taken from.
pub type PropertyClaim = (Box<str>, Box<str>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// A file, or a URL. Empty: there is a secret.
    pub keys: String,
    pub secret_file: Option<PathBuf>,
    /// Names of RFC 7518.
    pub algorithms: Vec<&'static str>,
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub leeway_s: u64,
    pub required: Vec<String>,
    /// Each claim is a name, or a JSON pointer.
    pub principal: String,
    pub roles: String,
    pub role_map: Vec<NameRoles>,
    pub properties: Vec<PropertyClaim>,
    pub refresh_ms: u64,
    pub unknown_key_ms: u64,
    pub timeout_ms: u64,
    pub ca_file: Option<PathBuf>,
}

impl Jwt {
    pub const ALGORITHMS: [&str; 12] =
        ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    pub const ALGORITHMS_TAKE: &str =
        "a list of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA, of which one at least";
    pub const PROPERTIES_TAKE: &str = "a list of \"PROPERTY: CLAIM\"";

    pub fn parse_algorithms(texts: &[String]) -> Result<Vec<&'static str>, String> {
        let known = |text: &String| {
            let found = Self::ALGORITHMS.into_iter().find(|name| name == text);
            found.ok_or_else(|| format!("there is no {text:?}"))
        };
        let algorithms: Vec<&'static str> = texts.iter().map(known).collect::<Result<_, _>>()?;
        if algorithms.is_empty() { Err("there is none".to_owned()) } else { Ok(algorithms) }
    }

    pub fn parse_properties(texts: &[String]) -> Result<Vec<PropertyClaim>, String> {
        let pair = |text: &String| {
            let (name, claim) = text.split_once(':').map(|(name, claim)| (name.trim(), claim.trim())).unwrap_or_default();
            if name.is_empty() || claim.is_empty() { Err(format!("{text:?} is none")) } else { Ok((name.into(), claim.into())) }
        };
        texts.iter().map(pair).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub url: String,
    pub authorization_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub timeout_ms: u64,
    pub connections: usize,
    pub waiting_max: usize,
    pub cache_ms: u64,
    pub cache_max: usize,
    pub breaker_failures: usize,
    pub breaker_window_ms: u64,
    pub breaker_open_ms: u64,
    pub unavailable: Unavailable,
}

/// Which roles a name gets that somebody else gave: `NAME: ROLE …`, where `*` at the name's beginning or end stands for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRoles {
    name: Box<str>,
    pub roles: Vec<Box<str>>,
}

impl NameRoles {
    pub const TAKES: &str = "a list of \"NAME: ROLE …\"";

    pub fn parse(text: &str) -> Option<Self> {
        let (name, roles) = text.rsplit_once(':')?;
        let name = name.trim();
        let inner = name.strip_prefix('*').unwrap_or(name);
        let inner = inner.strip_suffix('*').unwrap_or(inner);
        let is_good = !name.is_empty() && !inner.contains('*');
        is_good.then(|| Self { name: name.into(), roles: roles.split_whitespace().map(Box::from).collect() })
    }

    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, String> {
        texts.iter().map(|text| Self::parse(text).ok_or_else(|| format!("{text:?} is none"))).collect()
    }

    /// Whether this row is about that name.
    pub fn has(&self, name: &str) -> bool {
        if &*self.name == "*" {
            return true;
        }
        match (self.name.strip_prefix('*'), self.name.strip_suffix('*')) {
            (Some(inner), Some(_)) => name.contains(&inner[..inner.len() - 1]),
            (Some(end), None) => name.ends_with(end),
            (None, Some(start)) => name.starts_with(start),
            (None, None) => name == &*self.name,
        }
    }
}

/// Whether secrets may be sent there: by TLS, or to this host itself.
pub fn is_safe_url(url: &str) -> bool {
    let is_https = url.starts_with("https://");
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A name before an `@` only looks like a host.
    if authority.is_empty() || authority.contains(['@', '\\']) || url.contains(|letter: char| letter.is_whitespace() || letter.is_control())
    {
        return false;
    }
    is_https || is_this_host(authority)
}

fn is_this_host(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What names a file or a safe URL.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            chain: vec![Authenticator::Principals],
            principals_file: None,
            questions_max: 4096,
            wait_ms: 20_000,
            credentials_bytes_max: 16_384,
            failures: Failures {
                address_max: 20,
                address_per_minute: 12,
                principal_max: 50,
                principal_per_minute: 30,
                entries_max: 100_000,
            },
            passwords: Passwords::default(),
            control: Control { timeout_ms: 5000, waiting_max: 4096, unavailable: Unavailable::Deny },
            jwt: Jwt::default(),
            webhook: Webhook::default(),
            certificates: Vec::new(),
        }
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1, threads: 1, waiting_max: 1024, cache_ms: 300_000, cache_max: 10_000 }
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            keys: String::new(),
            secret_file: None,
            algorithms: Self::ALGORITHMS.to_vec(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_s: 30,
            required: vec!["exp".to_owned()],
            principal: "sub".to_owned(),
            roles: "roles".to_owned(),
            role_map: Vec::new(),
            properties: Vec::new(),
            refresh_ms: 3_600_000,
            unknown_key_ms: 30_000,
            timeout_ms: 5000,
            ca_file: None,
        }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: String::new(),
            authorization_file: None,
            ca_file: None,
            timeout_ms: 3000,
            connections: 4,
            waiting_max: 1024,
            cache_ms: 10_000,
            cache_max: 10_000,
            breaker_failures: 5,
            breaker_window_ms: 10_000,
            breaker_open_ms: 5000,
            unavailable: Unavailable::Deny,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_url(url: &str, expected: bool) {
        assert_eq!(is_safe_url(url), expected, "{url}");
    }

    #[test]
    fn secrets_go_by_tls_or_to_this_host() {
        check_url("https://a.example/x", true);
        check_url("https://a.example:8443", true);
        check_url("http://127.0.0.1:80/x", true);
        check_url("http://[::1]:80/x", true);
        check_url("http://localhost/x?y", true);
        check_url("http://a.example/x", false);
        check_url("http://127.0.0.1@a.example/", false);
        check_url("http://127.0.0.1.a.example/", false);
        check_url("http://localhost\\@a.example/", false);
        check_url("https:///x", false);
        check_url("https://a b/", false);
        check_url("ftp://127.0.0.1/", false);
        check_url("", false);
    }

    fn check_name(row: &str, name: &str, expected: bool) {
        assert_eq!(NameRoles::parse(row).expect(row).has(name), expected, "{row} {name}");
    }

    #[test]
    fn a_star_stands_for_anything_at_either_end() {
        check_name("a: R", "a", true);
        check_name("a: R", "ab", false);
        check_name("a*: R", "ab", true);
        check_name("*b: R", "ab", true);
        check_name("*b: R", "ba", false);
        check_name("*x*: R", "axb", true);
        check_name("*: R", "", true);
        check_name("**: R", "q", true);
        check_name("urn:dev:1: R", "urn:dev:1", true);
        assert_eq!(NameRoles::parse("a*b: R"), None);
        assert_eq!(NameRoles::parse(": R"), None);
        assert_eq!(NameRoles::parse("a"), None);
        assert_eq!(NameRoles::parse("a: R S").unwrap().roles, ["R".into(), "S".into()] as [Box<str>; 2]);
    }
}

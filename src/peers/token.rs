//! What lets a new node in: a text that names the cluster, who admits, and a secret that works once.
//!
//! The admitting server keeps no secret, but a file for each, named by the secret's hash. Taking a file out of the way is what makes its secret used, so
//! of two that come with the same one gets in, and the command that makes tokens needs to ask no server.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::consensus::NodeId;

use super::certificates::sha256;
use super::files::{random, write_privately};
use super::hello::{Reason, Refusal};
use super::members::is_address;

/// For how long a token works.
pub const VALID_MS: u64 = 24 * 3600 * 1000;

/// Files that are looked at when old ones are thrown away.
const FILES_MAX: usize = 10_000;

/// The longest text that is read, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

const USED: &str = "used";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub cluster: u64,
    /// Who admits.
    pub node: NodeId,
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's certificate, in hexadecimal digits.
    pub authority: String,
    pub secret: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    expires_ms: u64,
}

impl Token {
    /// The text that an operator carries.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("texts and numbers"))
    }

    /// `None` where the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = URL_SAFE_NO_PAD.decode(text.get(..text.len().min(TEXT_BYTES_MAX))?).ok()?;
        let token: Self = serde_json::from_slice(&bytes).ok()?;
        let is_usable = !token.addresses.is_empty() && token.addresses.iter().all(|address| is_address(address));
        (is_usable && token.fingerprint().is_some()).then_some(token)
    }

    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        parse_hex(&self.authority)?.try_into().ok()
    }
}

/// Makes a secret that works once, until 24 hours from `now_ms`.
pub fn new_secret(directory: &Path, now_ms: u64) -> io::Result<String> {
    fs::create_dir_all(directory)?;
    throw_away(directory, now_ms)?;
    let secret = hex(&random::<32>());
    let kept = serde_json::to_vec(&Kept { expires_ms: now_ms + VALID_MS }).expect("a number");
    write_privately(&directory.join(hash(&secret)), &kept)?;
    Ok(secret)
}

/// Uses a secret up.
///
/// # Errors
/// Why it lets nobody in, or the disk's as `Failed`.
pub fn redeem(directory: &Path, secret: &str, now_ms: u64) -> Result<(), Refusal> {
    let failed = |error: io::Error| Refusal::new(Reason::Failed, format!("the token cannot be looked up: {error}"));
    let used = || Refusal::new(Reason::TokenUsed, "the token was used already");
    let path = directory.join(hash(secret));
    let aside = path.with_extension(USED);
    if aside.exists() {
        return Err(used());
    }
    let kept = match fs::read(&path) {
        Ok(kept) => kept,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Refusal::new(Reason::TokenUnknown, "the token is not one that this server has made"));
        }
        Err(error) => return Err(failed(error)),
    };
    if !serde_json::from_slice(&kept).is_ok_and(|Kept { expires_ms }| now_ms < expires_ms) {
        return Err(Refusal::new(Reason::TokenExpired, "the token has expired; `tidewire cluster token` makes another"));
    }
    match fs::rename(&path, &aside) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(used()),
        Err(error) => Err(failed(error)),
    }
}

/// Removes what has expired a day ago: until then one is told that it has.
fn throw_away(directory: &Path, now_ms: u64) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.take(FILES_MAX) {
        let path = entry?.path();
        let kept = fs::read(&path).ok().and_then(|kept| serde_json::from_slice::<Kept>(&kept).ok());
        if kept.is_some_and(|kept| kept.expires_ms + VALID_MS < now_ms) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn hash(secret: &str) -> String {
    hex(&sha256(secret.as_bytes()))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::tests::Folder;
    use proptest::prelude::*;

    fn token() -> Token {
        Token { cluster: u64::MAX, node: 1, addresses: vec!["a:1".to_owned()], authority: hex(&[7; 32]), secret: "s".to_owned() }
    }

    #[test]
    fn a_token_is_read_from_its_text() {
        assert_eq!(Token::parse(&format!(" {}\n", token().text())), Some(token()));
        for wrong in [Token { authority: "07".to_owned(), ..token() }, Token { addresses: vec![], ..token() }] {
            assert_eq!(Token::parse(&wrong.text()), None);
        }
    }

    #[test]
    fn a_secret_lets_in_once_and_not_after_a_day() {
        let folder = Folder::new();
        let check = |secret: &str, now_ms, expected: Result<(), Reason>| {
            assert_eq!(redeem(&folder.0, secret, now_ms).map_err(|refusal| refusal.reason), expected);
        };
        let (one, other) = (new_secret(&folder.0, 1000).unwrap(), new_secret(&folder.0, 1000).unwrap());
        check("?", 1000, Err(Reason::TokenUnknown));
        check(&one, 1000 + VALID_MS, Err(Reason::TokenExpired));
        check(&one, 999 + VALID_MS, Ok(()));
        check(&one, 1000, Err(Reason::TokenUsed));
        let later = new_secret(&folder.0, 1001 + 2 * VALID_MS).unwrap();
        check(&one, 1000, Err(Reason::TokenUnknown));
        check(&other, 1000, Err(Reason::TokenUnknown));
        check(&later, 1001 + 2 * VALID_MS, Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_none(text in ".*", cut in 0..200usize) {
            let _ = Token::parse(&text);
            let whole = token().text();
            let _ = Token::parse(&whole[..cut.min(whole.len())]);
            let _ = parse_hex(&text);
        }
    }
}

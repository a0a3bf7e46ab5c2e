//! What clients and others say of a session, by keys of their own.

use crate::protocol::{ErrorCode, Refusal};

/// The most that one session has, and the longest key and value.
const PROPERTIES_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 1024;

/// What was checked, by key and value.
pub type Checked = Box<[(Box<str>, Box<str>)]>;

/// Keys begin with a letter and have letters, digits and `_` behind it; case matters. Those that begin with `$` are the server's.
///
/// In the order of their keys. Filters look into very many sessions: to find a key among few, their lengths are compared in one place of memory, and few keys
/// are looked at.
#[derive(Clone, Default)]
pub struct UserProperties(Vec<(Box<str>, Box<str>)>);

impl UserProperties {
    /// Checks what somebody wants to set.
    pub fn check<'p>(properties: impl Iterator<Item = (&'p str, &'p str)>) -> Result<Checked, Refusal> {
        let mut checked = Vec::new();
        for (key, value) in properties {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let wrong = if key.bytes().next().is_none_or(|first| !first.is_ascii_alphabetic()) {
                Some("a session property's key begins with a letter".to_owned())
            } else if let Some(at) = key.bytes().position(|byte| !is_word(byte)) {
                Some(format!("a session property's key has letters, digits and _ only; found something else at byte {at}"))
            } else if key.len() > KEY_BYTES_MAX {
                Some(format!("a session property's key has at most {KEY_BYTES_MAX} bytes"))
            } else if value.len() > VALUE_BYTES_MAX {
                Some(format!("a session property's value has at most {VALUE_BYTES_MAX} bytes"))
            } else {
                None
            };
            if let Some(wrong) = wrong {
                let key: String = key.chars().take(KEY_BYTES_MAX).collect();
                return Err(Refusal::new(ErrorCode::InvalidSessionProperty, format!("{wrong}: '{key}'")));
            }
            checked.push((key.into(), value.into()));
        }
        if checked.len() > PROPERTIES_MAX {
            let message = format!("a session has at most {PROPERTIES_MAX} properties");
            return Err(Refusal::new(ErrorCode::InvalidSessionProperty, message));
        }
        Ok(checked.into())
    }

    /// An empty value takes the property away. Whether all had room.
    pub fn set(&mut self, properties: &[(Box<str>, Box<str>)]) -> bool {
        let mut has_room = true;
        for (key, value) in properties {
            match self.0.binary_search_by(|(held, _)| held.cmp(key)) {
                Ok(at) if value.is_empty() => drop(self.0.remove(at)),
                Ok(at) => self.0[at].1 = value.clone(),
                Err(_) if value.is_empty() => {}
                Err(at) if self.0.len() < PROPERTIES_MAX => self.0.insert(at, (key.clone(), value.clone())),
                Err(_) => has_room = false,
            }
        }
        self.0.shrink_to_fit();
        has_room
    }

    /// Whether `set` would take all of them.
    pub fn has_room_for(&self, properties: &[(Box<str>, Box<str>)]) -> bool {
        self.clone().set(properties)
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(held, _)| **held == *key).map(|(_, value)| &**value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words() {
        for key in ["a", "Tier", "user_tier2"] {
            assert!(UserProperties::check([(key, "1")].into_iter()).is_ok(), "{key}");
        }
        let long = "k".repeat(65);
        for key in ["", "$Principal", "1a", "_a", "a b", "ä", "a-b", &long] {
            assert!(UserProperties::check([(key, "1")].into_iter()).is_err(), "{key}");
        }
        assert!(UserProperties::check([("a", &*"v".repeat(1025))].into_iter()).is_err());
    }

    #[test]
    fn an_empty_value_takes_away() {
        let mut properties = UserProperties::default();
        assert!(properties.set(&[("a".into(), "1".into()), ("b".into(), "2".into())]));
        assert!(properties.set(&[("a".into(), "".into())]));
        assert_eq!((properties.get("a"), properties.get("b")), (None, Some("2")));
        let many: Vec<_> = (0..64).map(|number| (format!("k{number}").into(), "1".into())).collect();
        assert!(!properties.set(&many));
        assert_eq!(properties.iter().count(), 64);
    }
}

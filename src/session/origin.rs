//! Where a session's client is: its address and the place of that, as the runtime sees them, and what the client runs in, as it says itself.
//!
//! Every session has an address, so that stands in the session; few have more.

mod languages;

use languages::language_of;
use std::net::Ipv6Addr;

/// What a connection brings along, for its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub address: Ipv6Addr,
    pub place: Place,
    /// Who the client is by its certificate, where it has shown one that the listener trusts.
    pub principal: Option<Box<str>>,
}

/// What is known of a session's client beside its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub place: Place,
    /// Empty where the client does not say.
    pub environment: Box<str>,
    /// Who it is by its certificate, where it has shown one.
    pub certificate: Option<Box<str>>,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// By its code of ISO 3166.
    pub country: Option<[u8; 2]>,
    /// Latitude and longitude, in millionths of a degree.
    pub position: Option<[i32; 2]>,
}

/// The longest that a client may say.
pub const ENVIRONMENT_BYTES_MAX: usize = 128;

/// What a client's environment begins with, and what kind of client that is.
const KINDS: [(&str, &str); 8] = [
    ("ANDROID", "ANDROID"),
    ("BROWSER", "JAVASCRIPT_BROWSER"),
    ("C", "C"),
    ("DOTNET", "DOTNET"),
    ("IOS", "IOS"),
    ("JAVA", "JAVA"),
    ("NODE", "JAVASCRIPT_BROWSER"),
    ("PYTHON", "PYTHON"),
];

impl Origin {
    /// The kind of client that runs in such an environment, as in `NODE_linux_22.1.0`.
    pub fn client_kind(&self) -> &'static str {
        let word = self.environment.split('_').next().unwrap_or_default();
        KINDS.iter().find(|(known, _)| *known == word).map_or("OTHER", |(_, kind)| kind)
    }

    pub fn country(&self) -> Option<&str> {
        self.place.country.as_ref().and_then(|code| std::str::from_utf8(code).ok())
    }

    /// The official language of the country, by its code of ISO 639; of several the one that most people there speak.
    pub fn language(&self) -> Option<&'static str> {
        language_of(self.place.country?)
    }
}

impl Place {
    /// An angle of the position, in degrees.
    pub fn degrees(millionths: i32) -> String {
        (f64::from(millionths) / 1e6).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_client_is_what_its_environment_begins_with() {
        for (environment, kind) in [
            ("NODE_linux_22.1.0", "JAVASCRIPT_BROWSER"),
            ("BROWSER", "JAVASCRIPT_BROWSER"),
            ("PYTHON_3.12", "PYTHON"),
            ("NODES", "OTHER"),
            ("", "OTHER"),
        ] {
            let origin = Origin { environment: environment.into(), ..Origin::default() };
            assert_eq!(origin.client_kind(), kind, "{environment}");
        }
    }

    #[test]
    fn a_place_is_said_in_degrees_and_by_codes() {
        let place = Place { country: Some(*b"DE"), position: Some([52_520_000, -13_405_001]) };
        let origin = Origin { place, ..Origin::default() };
        assert_eq!((origin.country(), origin.language()), (Some("DE"), Some("de")));
        assert_eq!(place.position.unwrap().map(Place::degrees), ["52.52", "-13.405001"]);
        let nowhere = Origin::default();
        assert_eq!((nowhere.country(), nowhere.language()), (None, None));
    }
}

//! Where addresses are: the countries and positions that a file of MaxMind's form has for them, which is read once, at the start.

use crate::shard::Place;
use maxminddb::Reader;
use serde::Deserialize;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// See the module.
pub struct Places(Reader<Vec<u8>>);

/// What is read of an address' record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found<'f> {
    #[serde(borrow)]
    country: Country<'f>,
    /// Where the address was allocated, which is known of some whose country is not.
    #[serde(borrow)]
    registered_country: Country<'f>,
    location: Location,
}

#[derive(Default, Deserialize)]
struct Country<'f> {
    iso_code: Option<&'f str>,
}

#[derive(Default, Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl Places {
    pub fn read(file: &Path) -> io::Result<Self> {
        let reader = Reader::open_readfile(file);
        reader.map(Self).map_err(|error| io::Error::other(format!("session.geoip_file: cannot read {}: {error}", file.display())))
    }

    /// Nothing is said of an address that the file does not know, or whose record is broken.
    pub fn find(&self, address: IpAddr) -> Place {
        let record = self.0.lookup(address).and_then(|result| result.decode::<Found<'_>>());
        let Ok(Some(Found { country, registered_country, location })) = record else { return Place::default() };
        let country = country.iso_code.or(registered_country.iso_code).and_then(|code| code.as_bytes().try_into().ok());
        let in_range = |degrees: f64, most: f64| (degrees.abs() <= most).then(|| (degrees * 1e6).round() as i32);
        let latitude = location.latitude.and_then(|latitude| in_range(latitude, 90.0));
        let longitude = location.longitude.and_then(|longitude| in_range(longitude, 180.0));
        Place { country, position: latitude.zip(longitude).map(<[i32; 2]>::from) }
    }
}

//! Topic values: their types, forms and deltas.
//!
//! Every loop here is over the bytes of one or two values, which `limits.value_bytes_max` bounds, with a configured number of steps for each where there is
//! more than one: `limits.patch_work_max` and `views.work_max` count those of patches and evaluations, fixed searches those of deltas.

pub mod delta;
pub mod json;
pub mod number;
pub mod patch;
pub mod pointer;
pub mod scalar;
pub(crate) mod tree;
pub mod work;

/// The type of a topic's values. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueType {
    Json = 1,
    String = 2,
    Int64 = 3,
    Double = 4,
    Binary = 5,
}

impl ValueType {
    pub const ALL: [Self; 5] = [Self::Json, Self::String, Self::Int64, Self::Double, Self::Binary];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == number)
    }

    /// Whether values are ever said as their difference from the one before: numbers are shorter than that.
    pub fn has_deltas(self) -> bool {
        matches!(self, Self::Json | Self::String | Self::Binary)
    }

    /// The name in the text form, on the command line and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::String => "string",
            Self::Int64 => "int64",
            Self::Double => "double",
            Self::Binary => "binary",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

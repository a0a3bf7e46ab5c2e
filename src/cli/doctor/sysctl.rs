//! The kernel settings that `tuning/90-tidewire.conf` asks for.
//!
//! The file itself is embedded: what `doctor` compares with is what an operator installs.

const FILE: &str = include_str!("../../../tuning/90-tidewire.conf");

/// One setting of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Sysctl {
    pub key: String,
    pub value: String,
    pub why: String,
    pub comparison: Comparison,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    AtLeast,
    AtMost,
    Exactly,
}

impl Comparison {
    /// The last line above a setting.
    fn from_line(line: &str) -> Option<Self> {
        match line {
            "At least:" => Some(Self::AtLeast),
            "At most:" => Some(Self::AtMost),
            "Exactly:" => Some(Self::Exactly),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::AtLeast => "at least ",
            Self::AtMost => "at most ",
            Self::Exactly => "",
        }
    }
}

/// All settings of the embedded file.
pub fn wanted() -> Vec<Sysctl> {
    FILE.split("\n\n").filter_map(parse).collect()
}

/// A paragraph is a comment, its last line the comparison, and `key = value`; one that has
/// no such last line is about the file and not about a setting.
fn parse(paragraph: &str) -> Option<Sysctl> {
    let (setting, comment): (Vec<&str>, Vec<&str>) =
        paragraph.lines().filter(|line| !line.is_empty()).partition(|line| !line.starts_with('#'));
    let (key, value) = setting.first()?.split_once(" = ").expect("a line of our own file is `key = value`");
    let mut words: Vec<&str> = comment.iter().map(|line| line.trim_start_matches('#').trim()).collect();
    let comparison = words.pop().and_then(Comparison::from_line).expect("each setting says how it is compared");
    assert!(setting.len() == 1 && !words.is_empty(), "{key}: one setting and its why, in a paragraph");
    Some(Sysctl { key: key.to_owned(), value: value.to_owned(), why: words.join(" "), comparison })
}

impl Sysctl {
    /// Whether the value that the host has will do. A value of several numbers is compared
    /// number by number.
    pub fn is_met_by(&self, found: &str) -> bool {
        let (Some(found_numbers), Some(wanted)) = (numbers(found), numbers(&self.value)) else {
            return found == self.value;
        };
        let fits = |(found, wanted): (&u64, &u64)| match self.comparison {
            Comparison::AtLeast => found >= wanted,
            Comparison::AtMost => found <= wanted,
            Comparison::Exactly => found == wanted,
        };
        found_numbers.len() == wanted.len() && found_numbers.iter().zip(&wanted).all(fits)
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(comparison: Comparison, wanted: &str, found: &str, met: bool) {
        let sysctl = Sysctl { key: "k".into(), value: wanted.into(), why: "w".into(), comparison };
        assert_eq!(sysctl.is_met_by(found), met, "{comparison:?} {wanted}: {found}");
    }

    #[test]
    fn every_setting_of_the_file_is_read() {
        let lines = FILE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(wanted().len(), lines.count());
        assert!(wanted().iter().any(|sysctl| sysctl.key == "net.core.somaxconn"));
    }

    #[test]
    fn numbers_are_compared_one_by_one() {
        check(Comparison::AtLeast, "10", "9", false);
        check(Comparison::AtLeast, "10", "10", true);
        check(Comparison::AtLeast, "4096 10", "8192\t9", false);
        check(Comparison::AtLeast, "4096 10", "4096\t11", true);
        check(Comparison::AtLeast, "4096 10", "4096", false);
        check(Comparison::AtMost, "10", "11", false);
        check(Comparison::AtMost, "10", "0", true);
        check(Comparison::Exactly, "0", "1", false);
        check(Comparison::Exactly, "0", "", false);
        check(Comparison::AtLeast, "10", "9223372036854775807", true);
    }
}

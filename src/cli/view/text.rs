//! A view's definition as it is given, and a mark below the place where it is wrong.

use super::super::print::printable;
use super::super::read::Failure;
use std::io::Read;

/// Far above what a server takes: what is read from a pipe or file ends here.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// So many characters are shown before and behind a place, at most.
const BEFORE_LENGTH: usize = 60;
const BEHIND_LENGTH: usize = 40;

/// The definition that an argument stands for: `-` is stdin, `@FILE` a file. White space around it is left out.
pub fn read(argument: &str) -> Result<String, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", printable(argument)));
    let mut text = String::new();
    let read = match argument.strip_prefix('@') {
        _ if argument == "-" => std::io::stdin().lock().take(TEXT_BYTES_MAX).read_to_string(&mut text),
        Some(file) => std::fs::File::open(file).and_then(|file| file.take(TEXT_BYTES_MAX).read_to_string(&mut text)),
        None => return Ok(argument.to_owned()),
    };
    match read {
        Ok(read) if read as u64 == TEXT_BYTES_MAX => Err(fail(&format!("expected a definition of less than {TEXT_BYTES_MAX} bytes"))),
        Ok(_) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(fail(&error)),
    }
}

/// The line that holds the byte at `position`, with a mark below it. Of a long line only the part around.
pub fn pointed(text: &str, position: usize) -> String {
    let position = (0..=position.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (before, behind) = text.split_at(position);
    let before = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
    let behind = behind.lines().next().unwrap_or_default();
    let before = match before.char_indices().rev().nth(BEFORE_LENGTH) {
        Some((end, last)) => format!("…{}", printable(&before[end + last.len_utf8()..])),
        None => printable(before),
    };
    let behind = match behind.char_indices().nth(BEHIND_LENGTH) {
        Some((end, _)) => format!("{}…", printable(&behind[..end])),
        None => printable(behind),
    };
    format!("  {before}{behind}\n  {}^\n", " ".repeat(before.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, position: usize, line: &str, mark: &str) {
        assert_eq!(pointed(text, position), format!("  {line}\n  {mark}\n"), "{text} at {position}");
    }

    #[test]
    fn a_mark_stands_below_the_place() {
        check("map a ot b", 6, "map a ot b", "      ^");
        check("map a\n to é ?\nx", 13, " to é ?", "      ^");
        check("map a\n to é ?\nx", 11, " to é ?", "    ^");
        check("map a\nto b\n", 5, "map a", "     ^");
        check("map a\nto b\n", 6, "to b", "^");
        check("map a\n", 6, "", "^");
        check("", 9, "", "^");
        check("é", 1, "é", "^");
    }

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        check("\tmap\x1b x", 6, "\\tmap\\u{1b} x", "            ^");
    }

    #[test]
    fn of_a_long_line_the_part_around_is_shown() {
        let text = format!("{}!{}", "é".repeat(61), "b".repeat(40));
        check(&text, 122, &format!("…{}!{}…", "é".repeat(60), "b".repeat(39)), &format!("{}^", " ".repeat(61)));
        check(&text[2..], 120, &format!("{}!{}…", "é".repeat(60), "b".repeat(39)), &format!("{}^", " ".repeat(60)));
        check(&text[2..text.len() - 1], 120, &format!("{}!{}", "é".repeat(60), "b".repeat(39)), &format!("{}^", " ".repeat(60)));
    }
}

//! Tables that fit a terminal: where there is no room the least wanted columns go, and the last is cut.

use super::print::{Printer, Style};
use std::io::IsTerminal;
use std::os::fd::AsRawFd;

/// One column, of as many cells as all others.
pub struct Column {
    head: &'static str,
    /// Those of the highest go first; those of 0 stay.
    rank: u8,
    cells: Vec<String>,
    is_right: bool,
    is_cut: bool,
}

/// Between two columns.
const GAP: usize = 2;

/// A column that may be cut is not cut below this.
const CUT_MIN: usize = 12;

impl Column {
    pub fn new(head: &'static str, rank: u8, cells: Vec<String>) -> Self {
        Self { head, rank, cells, is_right: false, is_cut: false }
    }

    /// Its cells end at its right side, as figures do.
    pub fn right(self) -> Self {
        Self { is_right: true, ..self }
    }

    /// Its cells are cut before it goes.
    pub fn cut(self) -> Self {
        Self { is_cut: true, ..self }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.head.len()]).max().unwrap_or(0)
    }

    fn least_width(&self) -> usize {
        if self.is_cut { self.width().min(CUT_MIN) } else { self.width() }
    }
}

/// The lines of the table on this terminal; none where there is no row.
pub fn print(printer: Printer, columns: &[Column]) -> Vec<String> {
    fit(printer, columns, terminal_width())
}

/// The same, within so many characters.
pub fn fit(printer: Printer, columns: &[Column], width_max: Option<usize>) -> Vec<String> {
    let rows = columns.first().map_or(0, |column| column.cells.len());
    if rows == 0 {
        return Vec::new();
    }
    let mut shown: Vec<&Column> =
        columns.iter().filter(|column| column.rank == 0 || column.cells.iter().any(|cell| !cell.is_empty())).collect();
    let width_max = width_max.unwrap_or(usize::MAX);
    while total(&shown, Column::least_width) > width_max {
        let Some(last) = shown.iter().map(|column| column.rank).max().filter(|rank| *rank > 0) else { break };
        let at = shown.iter().rposition(|column| column.rank == last).expect("one has it");
        shown.remove(at);
    }
    let over = total(&shown, Column::width).saturating_sub(width_max);
    let widths: Vec<usize> = shown.iter().map(|column| if column.is_cut { column.width() - over } else { column.width() }).collect();
    let line = |style: Style, text: &dyn Fn(&Column) -> String| {
        let cells = shown.iter().zip(&widths).enumerate().map(|(at, (column, width))| {
            let text = cut(&text(column), *width);
            let padded = if column.is_right { format!("{text:>width$}") } else { format!("{text:width$}") };
            if at == 0 || matches!(style, Style::Faint) { printer.styled(style, &padded) } else { padded }
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let head = line(Style::Faint, &|column| column.head.to_owned());
    std::iter::once(head).chain((0..rows).map(|row| line(Style::Path, &|column| column.cells[row].clone()))).collect()
}

fn total(columns: &[&Column], width: impl Fn(&Column) -> usize) -> usize {
    columns.iter().map(|column| width(column) + GAP).sum::<usize>().saturating_sub(GAP)
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// `None` where the output is no terminal.
fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    // SAFETY: all zeros is a size.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and this request writes a size to where it is told.
    let result = unsafe { libc::ioctl(out.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::super::print::Form;
    use super::*;

    fn check(width_max: usize, expected: [&str; 2]) {
        let cells = |text: &str| vec![text.to_owned()];
        let columns = [
            Column::new("NAME", 0, cells("a")),
            Column::new("NUMBER", 1, cells("7")).right(),
            Column::new("EMPTY", 1, cells("")),
            Column::new("LONG", 2, cells("0123456789abcdef")).cut(),
        ];
        assert_eq!(fit(Printer { form: Form::Plain }, &columns, Some(width_max)), expected, "{width_max}");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_then_goes() {
        check(30, ["NAME  NUMBER  LONG", "a          7  0123456789abcdef"]);
        check(29, ["NAME  NUMBER  LONG", "a          7  0123456789abcd…"]);
        check(26, ["NAME  NUMBER  LONG", "a          7  0123456789a…"]);
        check(25, ["NAME  NUMBER", "a          7"]);
        check(11, ["NAME", "a"]);
        check(1, ["NAME", "a"]);
    }
}

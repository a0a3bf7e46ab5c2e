//! Findings as a table for people.

use std::fmt::Write;

use super::{Finding, Severity};

const LINE_LENGTH_MAX: usize = 100;

/// How severities stand out.
#[derive(Clone, Copy)]
pub enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colour is for a terminal only, and not where the user has asked for none.
    pub fn for_terminal(is_terminal: bool) -> Self {
        if is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) { Self::Coloured } else { Self::Plain }
    }

    fn paint(self, severity: Severity, text: &str) -> String {
        let colour = match severity {
            Severity::Ok => 32,
            Severity::Advice => 33,
            Severity::Problem => 31,
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}

/// A line for each finding; beneath those that are not in order, why and what to do.
pub fn table(findings: &[Finding], style: Style) -> String {
    let width = |text: fn(&Finding) -> &str| findings.iter().map(|f| text(f).chars().count()).max().unwrap_or(0);
    let (what, found) = (width(|f| &f.what), width(|f| &f.found).min(28));
    let mut output = String::new();
    for finding in findings {
        let mark = style.paint(finding.severity, &format!("{:<7}", name(finding.severity)));
        let line = format!("{:<what$}  {:<found$}  wanted: {}", finding.what, finding.found, finding.wanted);
        writeln!(output, "{mark}  {line}").expect("a string takes all");
        if finding.severity != Severity::Ok {
            output += &paragraph("why:   ", &finding.why);
            output += &paragraph("to do: ", &finding.remedy);
        }
    }
    output + "\n" + &summary(findings) + "\n"
}

/// `text` in lines of a readable length, beneath the column of names.
fn paragraph(label: &str, text: &str) -> String {
    let indent = format!("{:9}", "");
    let mut lines = vec![format!("{indent}{label}")];
    for word in text.split_inclusive(' ') {
        if lines[lines.len() - 1].len() + word.trim_end().len() > LINE_LENGTH_MAX {
            lines.push(format!("{indent}{:width$}", "", width = label.len()));
        }
        let last = lines.len() - 1;
        lines[last] += word;
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Advice => "advice",
        Severity::Problem => "PROBLEM",
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (problems, advice) = (count(Severity::Problem), count(Severity::Advice));
    let kernel_settings = "tuning/90-tidewire.conf holds all kernel settings with their reasons.";
    match (problems, advice) {
        (0, 0) => "This host is as it should be.".to_owned(),
        (0, _) => format!("The server starts here. {advice} to improve; {kernel_settings}"),
        _ => format!("The server does not start here. Problems: {problems}; to improve: {advice}. {kernel_settings}"),
    }
}

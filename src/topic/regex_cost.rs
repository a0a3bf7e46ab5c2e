//! What a regex costs to parse beyond what its length says.
//!
//! Where case does not matter, the regex crate looks at every character of a class that is not ASCII: a range of a few
//! bytes may take ten milliseconds. So that a text of some regexes cannot stall a core, such ranges are counted.

use regex_syntax::ast::{self, Ast, ClassSetItem, Flag, Flags, FlagsItemKind, GroupKind};

/// The most characters in the ranges of one regex that somewhere ignores case: some tenths of a millisecond.
pub(crate) const FOLDED_CHARACTERS_MAX: usize = 4096;

/// Where the range starts that is one too many.
pub(crate) fn check_folding(ast: &Ast) -> Result<(), usize> {
    let folding = ast::visit(ast, Folding::default()).unwrap_or_else(|never| match never {});
    match folding.excess {
        Some(position) if folding.ignores_case => Err(position),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Folding {
    ignores_case: bool,
    characters: usize,
    /// Where the count first went over the maximum.
    excess: Option<usize>,
}

impl Folding {
    fn flags(&mut self, flags: &Flags) {
        self.ignores_case |= flags.items.iter().any(|item| matches!(item.kind, FlagsItemKind::Flag(Flag::CaseInsensitive)));
    }

    fn item(&mut self, item: &ClassSetItem) {
        if let ClassSetItem::Range(range) = item
            && !range.end.c.is_ascii()
        {
            self.characters += (range.end.c as usize).saturating_sub(range.start.c as usize);
            if self.characters > FOLDED_CHARACTERS_MAX {
                self.excess.get_or_insert(range.span.start.offset);
            }
        }
    }
}

impl ast::Visitor for Folding {
    type Output = Self;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self, Self::Err> {
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(flags) => self.flags(flags),
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. } => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        self.item(item);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use regex_syntax::ast::parse::Parser;

    use super::*;

    fn check(regex: &str, expected: Result<(), usize>) {
        assert_eq!(check_folding(&Parser::new().parse(regex).unwrap()), expected, "{regex}");
    }

    #[test]
    fn wide_ranges_are_refused_where_case_does_not_matter() {
        check("[a-\u{10ffff}]", Ok(()));
        check("(?i)[a-\u{10ffff}]", Err(5));
        check(r"x(?i:y)[\u{100}-\u{10ffff}]", Err(8));
        check(r"(?i)[^[а-я][\x00-\u{ffff}]&&z]", Err(14));
        check(r"(?si)[0-9a-z\x00-\x7f]", Ok(()));
        check(r"(?s-m)[\x00-\u{ffff}](?x: y)", Ok(()));
    }

    #[test]
    fn ranges_count_together() {
        check(r"(?i)[\u{1000}-\u{17ff}][\u{1000}-\u{17ff}]", Ok(()));
        check(r"(?i)[\u{1000}-\u{17ff}][\u{1000}-\u{1803}]", Err(24));
    }
}

//! Conditions joined by `and` and `or`, in parentheses where the sender likes: `and` binds tighter.
//!
//! What a condition is, is left to the language that uses it.

use super::syntax::{Cursor, SyntaxError};

/// Joined conditions. A list has two members or more, none of which is a list of the same kind.
#[derive(Clone, Debug)]
pub(crate) enum Expression<C> {
    Condition(C),
    All(Box<[Self]>),
    Any(Box<[Self]>),
}

/// Reads one condition. The number says how much deeper it may go.
pub(crate) type ReadCondition<'r, 'a, C> = dyn FnMut(&mut Cursor<'a>, usize) -> Result<C, SyntaxError> + 'r;

impl<C> Expression<C> {
    /// Reads as far as conditions are joined; at most `depth_left` parentheses within each other.
    pub fn parse<'a>(cursor: &mut Cursor<'a>, depth_left: usize, read: &mut ReadCondition<'_, 'a, C>) -> Result<Self, SyntaxError> {
        let mut members = Vec::new();
        loop {
            match Self::parse_all(cursor, depth_left, read)? {
                Self::Any(inner) => members.extend(inner),
                member => members.push(member),
            }
            if cursor.take_keyword("or").is_none() {
                return Ok(Self::join(members, Self::Any));
            }
        }
    }

    /// Reads one condition or what stands in one pair of parentheses.
    pub fn parse_operand<'a>(cursor: &mut Cursor<'a>, depth_left: usize, read: &mut ReadCondition<'_, 'a, C>) -> Result<Self, SyntaxError> {
        let before = cursor.clone();
        if cursor.take_symbol('(').is_none() {
            return Ok(Self::Condition(read(cursor, depth_left)?));
        }
        let expression = Self::parse(cursor, deeper(&before, depth_left)?, read)?;
        cursor.take_symbol(')').ok_or_else(|| cursor.error("`and`, `or` or ')'"))?;
        Ok(expression)
    }

    pub fn holds(&self, condition: &dyn Fn(&C) -> bool) -> bool {
        match self {
            Self::Condition(inner) => condition(inner),
            Self::All(members) => members.iter().all(|member| member.holds(condition)),
            Self::Any(members) => members.iter().any(|member| member.holds(condition)),
        }
    }

    /// The first of the conditions that all have to hold of which `find` finds something.
    pub fn find_required<'e, T>(&'e self, find: &dyn Fn(&'e C) -> Option<T>) -> Option<T> {
        match self {
            Self::Condition(inner) => find(inner),
            Self::All(members) => members.iter().find_map(|member| member.find_required(find)),
            Self::Any(_) => None,
        }
    }

    /// Prints with no more parentheses than are needed.
    pub fn print(&self, out: &mut String, condition: &dyn Fn(&C, &mut String)) {
        match self {
            Self::Condition(inner) => condition(inner, out),
            Self::All(members) => {
                for (index, member) in members.iter().enumerate() {
                    out.push_str(if index > 0 { " and " } else { "" });
                    member.print_operand(out, condition);
                }
            }
            Self::Any(members) => {
                for (index, member) in members.iter().enumerate() {
                    out.push_str(if index > 0 { " or " } else { "" });
                    member.print(out, condition);
                }
            }
        }
    }

    /// Prints so that [`Self::parse_operand`] takes all of it.
    pub fn print_operand(&self, out: &mut String, condition: &dyn Fn(&C, &mut String)) {
        if let Self::Condition(inner) = self {
            return condition(inner, out);
        }
        out.push('(');
        self.print(out, condition);
        out.push(')');
    }

    fn parse_all<'a>(cursor: &mut Cursor<'a>, depth_left: usize, read: &mut ReadCondition<'_, 'a, C>) -> Result<Self, SyntaxError> {
        let mut members = Vec::new();
        loop {
            match Self::parse_operand(cursor, depth_left, read)? {
                Self::All(inner) => members.extend(inner),
                member => members.push(member),
            }
            if cursor.take_keyword("and").is_none() {
                return Ok(Self::join(members, Self::All));
            }
        }
    }

    fn join(mut members: Vec<Self>, list: fn(Box<[Self]>) -> Self) -> Self {
        match members.pop() {
            Some(only) if members.is_empty() => only,
            Some(last) => {
                members.push(last);
                list(members.into())
            }
            None => list(members.into()),
        }
    }
}

/// One level deeper than `depth_left` allows, or the error that what stands at `cursor` is too deep.
pub(crate) fn deeper(cursor: &Cursor<'_>, depth_left: usize) -> Result<usize, SyntaxError> {
    depth_left.checked_sub(1).ok_or_else(|| cursor.error("a condition that is not nested so deep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cursor: &mut Cursor<'_>, _depth_left: usize) -> Result<String, SyntaxError> {
        match cursor.take_word() {
            "" => Err(cursor.error("a letter")),
            word => Ok(word.into()),
        }
    }

    fn check(text: &str, expected: &str) {
        let mut cursor = Cursor::new(text);
        let expression = Expression::parse(&mut cursor, 4, &mut read).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut printed = String::new();
        expression.print(&mut printed, &|letter, out| out.push_str(letter));
        assert_eq!(printed, expected, "{text}");
        cursor.expect_end("the end").unwrap();
    }

    #[test]
    fn parentheses_stand_where_they_mean_something() {
        check("a", "a");
        check("((a))", "a");
        check("a and b or c", "a and b or c");
        check("a or (b and c)", "a or b and c");
        check("(a OR b)AND c", "(a or b) and c");
        check("a and (b and (c and d))", "a and b and c and d");
        check("a or (b or c) or d", "a or b or c or d");
        check("(a or b) and (c or d)", "(a or b) and (c or d)");
    }

    #[test]
    fn and_binds_tighter_than_or() {
        for truths in 0..8 {
            let value = |letter: &String| truths & (1 << (letter.as_bytes()[0] - b'a')) != 0;
            let [a, b, c] = [1, 2, 4].map(|bit| truths & bit != 0);
            for (text, expected) in [("a and b or c", a && b || c), ("a or b and c", a || b && c), ("a and (b or c)", a && (b || c))] {
                let expression = Expression::parse(&mut Cursor::new(text), 4, &mut read).unwrap();
                assert_eq!(expression.holds(&value), expected, "{text} {truths:b}");
            }
        }
    }

    #[test]
    fn depth_is_limited() {
        let parse = |text: &str| Expression::parse(&mut Cursor::new(text), 4, &mut read).map(|_| ());
        assert_eq!(parse("((((a))))"), Ok(()));
        assert_eq!(parse("(((((a)))))").map_err(|error| error.position), Err(4));
        assert_eq!(parse("(a").map_err(|error| error.expected), Err("`and`, `or` or ')'".into()));
    }
}

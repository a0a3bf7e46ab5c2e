//! Reads the text of a removal policy.

use super::{Condition, Hold, Inner, PERIOD_UNITS, RemovalLimits, Scope, date};
use crate::topic::expression::Expression;
use crate::topic::selector::Selector;
use crate::topic::session_filter::SessionFilter;
use crate::topic::syntax::{Cursor, SyntaxError, check_canonical_length, check_length};

const CONDITION: &str = "a condition: `time after`, `subscriptions <`, `no updates`, `no session has`, `this session closes` or '('";

pub fn parse(text: &str, limits: RemovalLimits) -> Result<Inner, SyntaxError> {
    check_length(text, "a removal policy", limits.text_bytes_max)?;
    let mut cursor = Cursor::new(text);
    cursor.expect_keywords(&["when"])?;
    let mut parser = Parser { limits, conditions: Vec::new(), filters: Vec::new() };
    let expression = Expression::parse(&mut cursor, limits.depth_max, &mut |cursor, _| parser.condition(cursor))?;
    let remove = match cursor.take_keyword("remove") {
        Some(()) => Some(selector(&mut cursor, limits)?),
        None => None,
    };
    cursor.expect_end(if remove.is_some() { "the end of the text" } else { "`and`, `or`, `remove` or the end of the text" })?;
    let (conditions, filters) = (parser.conditions.into(), parser.filters.into());
    let mut inner = Inner { text: "".into(), conditions, expression, filters, remove };
    inner.text = inner.print().into();
    check_canonical_length(text, &inner.text, limits.text_bytes_max)?;
    Ok(inner)
}

fn selector(cursor: &mut Cursor<'_>, limits: RemovalLimits) -> Result<Box<str>, SyntaxError> {
    let quoted = cursor.expect_quoted("a quoted topic selector")?;
    let selector = Selector::parse(&quoted.content(), limits.selector)
        .map_err(|error| quoted.locate(SyntaxError { position: error.position, found: error.found, expected: error.expected }))?;
    Ok(selector.as_str().into())
}

struct Parser {
    limits: RemovalLimits,
    conditions: Vec<Condition>,
    filters: Vec<SessionFilter>,
}

impl Parser {
    /// The index of the condition that it reads.
    fn condition(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, SyntaxError> {
        if self.conditions.len() == self.limits.conditions_max {
            return Err(cursor.error(&format!("at most {} conditions", self.limits.conditions_max)));
        }
        let condition = if cursor.take_keyword("time").is_some() {
            cursor.expect_keywords(&["after"])?;
            Condition::TimeAfter { wall_ms: instant_ms(cursor)? }
        } else if cursor.take_keyword("local").is_some() {
            cursor.expect_keywords(&["subscriptions"])?;
            self.subscriptions(cursor, Scope::Local)?
        } else if cursor.take_keyword("subscriptions").is_some() {
            self.subscriptions(cursor, Scope::All)?
        } else if cursor.take_keyword("no").is_some() {
            self.absence(cursor)?
        } else if cursor.take_keyword("this").is_some() {
            cursor.expect_keywords(&["session", "closes"])?;
            Condition::CreatorCloses
        } else {
            return Err(cursor.error(CONDITION));
        };
        self.conditions.push(condition);
        Ok(self.conditions.len() - 1)
    }

    fn subscriptions(&self, cursor: &mut Cursor<'_>, scope: Scope) -> Result<Condition, SyntaxError> {
        const COUNT: &str = "a count of 1 or more";
        cursor.take_symbol('<').ok_or_else(|| cursor.error("'<' and a count"))?;
        let before = cursor.clone();
        let below = cursor.expect_number(COUNT)?;
        if below == 0 {
            return Err(before.error(COUNT));
        }
        Ok(Condition::Subscriptions { scope, below, hold: self.hold(cursor)? })
    }

    /// What stands behind `no`.
    fn absence(&mut self, cursor: &mut Cursor<'_>) -> Result<Condition, SyntaxError> {
        if cursor.take_keyword("updates").is_some() {
            return Ok(Condition::NoUpdates { hold: self.hold(cursor)? });
        }
        let scope = match cursor.take_keyword("local") {
            Some(()) => Scope::Local,
            None if cursor.is_keyword("session") => Scope::All,
            None => return Err(cursor.error("`updates`, `session` or `local`")),
        };
        cursor.expect_keywords(&["session", "has"])?;
        let filter_index = self.filter(cursor)?;
        let hold = match cursor.is_keyword("for") {
            true => self.hold(cursor)?,
            false => Hold { for_ms: 0, after_ms: self.after_ms(cursor)? },
        };
        Ok(Condition::NoSession { scope, filter_index, hold })
    }

    /// Equal filters are counted once.
    fn filter(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, SyntaxError> {
        let quoted = cursor.expect_quoted("a quoted session filter")?;
        let filter = SessionFilter::parse(&quoted.content(), self.limits.filter).map_err(|error| quoted.locate(error))?;
        if let Some(index) = self.filters.iter().position(|known| *known == filter) {
            return Ok(index);
        }
        self.filters.push(filter);
        Ok(self.filters.len() - 1)
    }

    fn hold(&self, cursor: &mut Cursor<'_>) -> Result<Hold, SyntaxError> {
        cursor.expect_keywords(&["for"])?;
        Ok(Hold { for_ms: self.period_ms(cursor)?, after_ms: self.after_ms(cursor)? })
    }

    fn after_ms(&self, cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
        match cursor.take_keyword("after") {
            Some(()) => self.period_ms(cursor),
            None => Ok(0),
        }
    }

    fn period_ms(&self, cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
        let before = cursor.clone();
        let number = cursor.expect_number("a period such as 5m")?;
        let (_, unit_ms) = PERIOD_UNITS
            .into_iter()
            .find(|(unit, _)| cursor.take_keyword(unit).is_some())
            .ok_or_else(|| cursor.error("one of the units s, m, h or d"))?;
        let days_max = self.limits.period_days_max;
        number
            .checked_mul(unit_ms)
            .filter(|ms| *ms <= days_max.saturating_mul(86_400_000))
            .ok_or_else(|| before.error(&format!("a period of at most {days_max}d")))
    }
}

fn instant_ms(cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
    const INSTANT: &str = "milliseconds since 1970, or a quoted date such as 'Tue, 3 Jun 2025 11:05:30 GMT'";
    if !cursor.is_quoted() {
        return cursor.expect_number(INSTANT);
    }
    let quoted = cursor.expect_quoted(INSTANT)?;
    date::parse_ms(&quoted.content()).map_err(|error| quoted.locate(error))
}

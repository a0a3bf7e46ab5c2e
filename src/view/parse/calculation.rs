//! `calc '…'`: decimal arithmetic on what pointers point to.
//!
//! `*` and `/` bind tighter than `+` and `-`, and all take what stands on their left first. A `/` where an operand is due
//! starts a pointer, and where an operator is due divides. A pointer without quotation marks ends at white space or at one
//! of `+ * ( )`, so `/a/b` and `/a-1` are one pointer each, and dividing or subtracting takes white space: `/a / /b`,
//! `/a - 1`.

use rust_decimal::Decimal;

use super::{Parser, token};
use crate::topic::syntax::{Cursor, SyntaxError, brief};
use crate::view::definition::{Calculation, Operator};

/// What ends a pointer without quotation marks in a calculation.
const POINTER_ENDS: [char; 4] = ['+', '*', '(', ')'];

const SUMS: [(char, Operator); 2] = [('+', Operator::Add), ('-', Operator::Subtract)];
const PRODUCTS: [(char, Operator); 2] = [('*', Operator::Multiply), ('/', Operator::Divide)];

impl Parser<'_> {
    /// A calculation in quotation marks.
    pub fn calculation(&self, cursor: &mut Cursor<'_>) -> Result<Calculation, SyntaxError> {
        let quoted = cursor.expect_quoted("a calculation in quotation marks")?;
        let content = quoted.content();
        let mut reader = Reader { cursor: Cursor::new(&content), operations: 0, operations_max: self.limits.operations_max };
        reader
            .sum(self.limits.depth_max)
            .and_then(|sum| reader.cursor.expect_end("'+', '-', '*', '/' or the end of the calculation").map(|()| sum))
            .map_err(|error| token::locate(quoted, error))
    }
}

/// Reads one calculation. Operators are counted, as each makes the tree of it deeper.
struct Reader<'a> {
    cursor: Cursor<'a>,
    operations: usize,
    operations_max: usize,
}

impl Reader<'_> {
    fn sum(&mut self, depth_left: usize) -> Result<Calculation, SyntaxError> {
        self.chain(&SUMS, &|reader| reader.product(depth_left))
    }

    fn product(&mut self, depth_left: usize) -> Result<Calculation, SyntaxError> {
        self.chain(&PRODUCTS, &|reader| reader.operand(depth_left))
    }

    fn chain(
        &mut self,
        operators: &[(char, Operator)],
        operand: &dyn Fn(&mut Self) -> Result<Calculation, SyntaxError>,
    ) -> Result<Calculation, SyntaxError> {
        let mut left = operand(self)?;
        while let Some((sign, operator)) = operators.iter().find(|(sign, _)| self.cursor.rest().starts_with(*sign)) {
            self.count()?;
            token::expect_symbol(&mut self.cursor, *sign)?;
            let right = operand(self)?;
            left = Calculation::Operation { operator: *operator, operands: Box::new([left, right]) };
        }
        Ok(left)
    }

    fn operand(&mut self, depth_left: usize) -> Result<Calculation, SyntaxError> {
        let cursor = &mut self.cursor;
        let before = cursor.clone();
        if token::is_pointer(cursor) || cursor.is_quoted() {
            return token::pointer(cursor, &POINTER_ENDS).map(Calculation::Pointer);
        }
        if cursor.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return number(cursor).map(Calculation::Number);
        }
        if cursor.take_symbol('(').is_some() {
            let sum = self.sum(token::deeper(&before, depth_left, "a calculation")?)?;
            self.cursor.take_symbol(')').ok_or_else(|| self.cursor.error("'+', '-', '*', '/' or ')'"))?;
            return Ok(sum);
        }
        if cursor.rest().starts_with('-') {
            self.count()?;
            token::expect_symbol(&mut self.cursor, '-')?;
            let depth_left = token::deeper(&before, depth_left, "a calculation")?;
            return Ok(Calculation::Negate(Box::new(self.operand(depth_left)?)));
        }
        Err(cursor.error("a JSON pointer, a number, '-' or '('"))
    }

    fn count(&mut self) -> Result<(), SyntaxError> {
        self.operations += 1;
        if self.operations > self.operations_max {
            return Err(self.cursor.error(&format!("at most {} operators in a calculation", self.operations_max)));
        }
        Ok(())
    }
}

fn number(cursor: &mut Cursor<'_>) -> Result<Decimal, SyntaxError> {
    let position = cursor.position();
    let text = token::take_number(cursor)?;
    match decimal(text) {
        Some(number) => Ok(number),
        None => token::refuse(position, format!("`{}`", brief(text)), "a number of at most 28 digits, and as many behind the point"),
    }
}

/// Exactly what `text` says, or `None` where that is no decimal. It is digits, maybe a point and more, maybe an exponent.
fn decimal(text: &str) -> Option<Decimal> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(Decimal::ZERO);
    }
    let mut mantissa: i128 = significant.parse().ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_add_unsigned(whole.len() as u64)?;
    // The value is 0.⟨digits⟩ × 10^exponent, and so mantissa × 10^(exponent - number of digits).
    let shift = exponent.checked_sub_unsigned(significant.len() as u64)?;
    if shift > 0 {
        mantissa = mantissa.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    }
    Decimal::try_from_i128_with_scale(mantissa, u32::try_from(shift.min(0).unsigned_abs()).ok()?).ok()
}

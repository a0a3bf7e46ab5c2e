//! Parts of a view in short, with the structure that the parser gave them.

use crate::view::definition::*;

pub fn show_path(path: &PathTemplate) -> String {
    let part = |part: &PathPart| match part {
        PathPart::Text(text) => format!("`{text}`"),
        PathPart::Path { start, count: None } => format!("path({start})"),
        PathPart::Path { start, count: Some(count) } => format!("path({start},{count})"),
        PathPart::Scalar { pointer, level: None } => format!("scalar({pointer})"),
        PathPart::Scalar { pointer, level: Some(level) } => format!("scalar({pointer},{level})"),
        PathPart::Expand { source, name: None } => format!("expand({source})"),
        PathPart::Expand { source, name: Some(name) } => format!("expand({source},{name})"),
    };
    path.parts.iter().map(part).collect::<Vec<_>>().join(",")
}

pub fn show_transformation(transformation: &Transformation) -> String {
    match transformation {
        Transformation::Process(block) => format!("process {}", show_block(block)),
        Transformation::Patch(_) => "patch".into(),
        Transformation::Insert(insert) => {
            let key = insert.key.as_ref().map_or(String::new(), |key| format!(" key {key}"));
            let default = insert.default.as_ref().map_or(String::new(), |json| format!(" default {}", show_json(json)));
            format!("insert {}{key} at {}{default}", show_path(&insert.path), insert.at)
        }
    }
}

fn show_block(block: &Block) -> String {
    format!("{{{}}}", block.iter().map(show_statement).collect::<Vec<_>>().join("; "))
}

fn show_statement(statement: &Statement) -> String {
    match statement {
        Statement::Set { target, source } => format!("set({target}, {})", show_source(source)),
        Statement::Remove(target) => format!("remove({target})"),
        Statement::Continue => "continue".into(),
        Statement::If { branches, otherwise } => {
            let branch = |branch: &Branch| format!("if {} {}", show_condition(&branch.condition), show_block(&branch.block));
            let otherwise = otherwise.as_ref().map_or(String::new(), |block| format!(" else {}", show_block(block)));
            branches.iter().map(branch).collect::<Vec<_>>().join(" else") + &otherwise
        }
    }
}

fn show_source(source: &ValueSource) -> String {
    let format = |format: &Option<Format>| match format {
        Some(Format { kind, scale, rounding }) => {
            format!(" as {kind:?}, {}, {rounding:?}", scale.map_or("any".into(), |scale| scale.to_string()))
        }
        None => String::new(),
    };
    match source {
        ValueSource::Constant(json) => show_json(json),
        ValueSource::Pointer { pointer, format: form } => format!("{pointer}{}", format(form)),
        ValueSource::Calculation { calculation, format: form } => format!("{}{}", show_calculation(calculation), format(form)),
    }
}

fn show_condition(condition: &Condition) -> String {
    let list = |members: &[Condition], word: &str| format!("({})", members.iter().map(show_condition).collect::<Vec<_>>().join(word));
    match condition {
        Condition::All(members) => list(members, " and "),
        Condition::Any(members) => list(members, " or "),
        Condition::Not(inner) => format!("not {}", show_condition(inner)),
        Condition::Matches { left, regex } => format!("({left} =~ {regex})"),
        Condition::Compare { left, operator, right } => {
            let right = match right {
                Operand::Constant(json) => show_json(json),
                Operand::Pointer(pointer) => pointer.to_string(),
            };
            let operator = match operator {
                Comparison::Equal => "=",
                Comparison::NotEqual => "!=",
                Comparison::Greater => ">",
                Comparison::GreaterOrEqual => ">=",
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
            };
            format!("({left} {operator} {right})")
        }
    }
}

fn show_calculation(calculation: &Calculation) -> String {
    match calculation {
        Calculation::Number(number) => number.to_string(),
        Calculation::Pointer(pointer) => pointer.to_string(),
        Calculation::Negate(inner) => format!("-{}", show_calculation(inner)),
        Calculation::Operation { operator, operands } => {
            let operator = match operator {
                Operator::Add => "+",
                Operator::Subtract => "-",
                Operator::Multiply => "*",
                Operator::Divide => "/",
            };
            format!("({} {operator} {})", show_calculation(&operands[0]), show_calculation(&operands[1]))
        }
    }
}

fn show_json(json: &[u8]) -> String {
    String::from_utf8(json.into()).unwrap()
}

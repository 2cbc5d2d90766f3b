//! A plans file as a tree of values that know their line, whichever format it was written in.
//!
//! Knows TOML and JSON; does not know what a plan is.

use jsonc_parser::ast;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// A value and the line it stands on, counted from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Bool(bool),
    /// A whole number that an `i64` holds.
    Integer(i64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// Anything that no plans file has a use for: null, a fraction, a date. As it was written.
    Other(String),
}

/// A key and its value. A table may hold a key twice; it is for the reader to refuse it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) node: Node,
}

impl Value {
    /// The value as a message shows it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => format!("{value:?}"),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Table(_) => "a table".to_owned(),
            Self::Other(text) => text.clone(),
        }
    }
}

pub(super) fn parse_toml(text: &str) -> Result<Node, Problem> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| Problem {
        line: error.span().map_or(1, |span| lines.at(span.start)),
        key: String::new(),
        message: format!("this is not TOML: {}", error.message()),
    })?;
    Ok(Node { line: 1, value: toml_table(table.get_ref(), &lines) })
}

fn toml_table(table: &DeTable<'_>, lines: &Lines) -> Value {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let node = Node { line: lines.at(value.span().start), value: toml_value(value.get_ref(), lines) };
        entries.push(Entry { line: lines.at(key.span().start), key: key.get_ref().to_string(), node });
    }
    Value::Table(entries)
}

fn toml_value(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) => Value::Integer(value),
            Err(_) => Value::Other(integer.to_string()),
        },
        DeValue::Float(float) => Value::Other(float.to_string()),
        DeValue::Datetime(time) => Value::Other(time.to_string()),
        DeValue::Table(table) => toml_table(table, lines),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node { line: lines.at(item.span().start), value: toml_value(item.get_ref(), lines) })
                .collect(),
        ),
    }
}

pub(super) fn parse_json(text: &str) -> Result<Node, Problem> {
    let refuse = |line, message| Problem { line, key: String::new(), message: format!("this is not JSON: {message}") };
    let strict = jsonc_parser::ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &strict)
        .map_err(|error| refuse(error.line_display(), error.kind().to_string()))?;
    let value = parsed.value.ok_or_else(|| refuse(1, "the file is empty".to_owned()))?;
    Ok(json_node(&value, &Lines::of(text)))
}

fn json_node(value: &ast::Value<'_>, lines: &Lines) -> Node {
    let (start, value) = match value {
        ast::Value::BooleanLit(literal) => (literal.range.start, Value::Bool(literal.value)),
        ast::Value::StringLit(literal) => (literal.range.start, Value::Text(literal.value.to_string())),
        ast::Value::NumberLit(literal) => {
            let value = literal.value.parse().map_or_else(|_| Value::Other(literal.value.to_owned()), Value::Integer);
            (literal.range.start, value)
        }
        ast::Value::NullKeyword(keyword) => (keyword.range.start, Value::Other("null".to_owned())),
        ast::Value::Array(array) => {
            (array.range.start, Value::List(array.elements.iter().map(|item| json_node(item, lines)).collect()))
        }
        ast::Value::Object(object) => {
            let entries = object.properties.iter().map(|property| Entry {
                line: lines.at(property.range.start),
                key: property.name.as_str().to_owned(),
                node: json_node(&property.value, lines),
            });
            (object.range.start, Value::Table(entries.collect()))
        }
    };
    Node { line: lines.at(start), value }
}

/// Where each line of a text starts.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The line of a byte, counted from 1.
    fn at(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte)
    }
}

//! One line of a traffic file, as named fields.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::Value;

use super::log::LogLine;

#[derive(Debug)]
pub(crate) enum Record {
    Log(LogLine),
    Row { names: Arc<csv::StringRecord>, row: csv::StringRecord },
    Object(serde_json::Map<String, Value>),
}

impl Record {
    pub(crate) fn from_log(line: &str) -> Result<Self> {
        LogLine::parse(line).map(Self::Log)
    }

    pub(crate) fn from_json(line: &str) -> Result<Self> {
        match serde_json::from_str(line)? {
            Value::Object(fields) => Ok(Self::Object(fields)),
            other => bail!("found {other}, expected an object"),
        }
    }

    pub(crate) fn from_row(names: &Arc<csv::StringRecord>, row: csv::StringRecord) -> Self {
        Self::Row { names: Arc::clone(names), row }
    }

    /// The text of a field; `None` where the record has none of that name.
    pub(crate) fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Log(line) => line.field(name).map(Cow::Borrowed),
            Self::Row { names, row } => {
                let column = names.iter().position(|known| known == name)?;
                row.get(column).map(Cow::Borrowed)
            }
            Self::Object(fields) => match fields.get(name)? {
                Value::Null => None,
                Value::String(text) => Some(Cow::Borrowed(text)),
                other => Some(Cow::Owned(other.to_string())),
            },
        }
    }
}

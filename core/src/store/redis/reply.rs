//! Reading what a script has answered.

use redis::Value;

use super::failure::damaged;
use crate::plan::UNITS_MAX;
use crate::store::StoreError;

/// A list in an answer, read from its beginning.
pub(super) struct Reply {
    what: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    /// The answer as a list of what is named.
    pub(super) fn of(what: &'static str, value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(values) => Ok(Self { what, values: values.into_iter() }),
            Value::Nil => Ok(Self { what, values: Vec::new().into_iter() }),
            other => Err(damaged(what, &format!("{other:?} is no list"))),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.values.len() == 0
    }

    pub(super) fn next(&mut self) -> Result<Value, StoreError> {
        self.values.next().ok_or_else(|| damaged(self.what, &"it ends too soon"))
    }

    pub(super) fn list(&mut self) -> Result<Self, StoreError> {
        Self::of(self.what, self.next()?)
    }

    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        number(self.what, &self.next()?)
    }

    pub(super) fn units(&mut self) -> Result<u64, StoreError> {
        let found = self.number()?;
        let units = u64::try_from(found).ok().filter(|units| *units <= UNITS_MAX);
        units.ok_or_else(|| damaged(self.what, &format!("it holds {found} units")))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            other => Err(damaged(self.what, &format!("{other:?} is no text"))),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        let what = self.what;
        String::from_utf8(self.bytes()?).map_err(|error| damaged(what, &error))
    }
}

/// A number, as one or as its digits.
pub(super) fn number(what: &'static str, value: &Value) -> Result<i64, StoreError> {
    let digits = match value {
        Value::Int(number) => return Ok(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| damaged(what, &format!("{value:?} is no number")))
}

//! Plans files: TOML or JSON, one schema, read whole or refused whole.

use std::path::Path;

use super::document::{self, Node};
use super::error::{PlansError, Problem};
use super::plan::Plans;
use super::schema;

impl Plans {
    /// Reads a plans file. `.json` is read as JSON, everything else as TOML.
    ///
    /// # Errors
    ///
    /// [`PlansError`] with every problem in the file, each with its line, key and what was expected;
    /// nothing of a bad file is used.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, PlansError> {
        let path = path.as_ref();
        let refuse = |problems| PlansError { path: Some(path.to_owned()), problems };
        let text = std::fs::read_to_string(path).map_err(|error| {
            refuse(vec![Problem { line: 0, key: String::new(), message: format!("the file cannot be read: {error}") }])
        })?;
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let parse = if json { document::parse_json } else { document::parse_toml };
        read(&text, parse).map_err(refuse)
    }

    /// Reads plans from TOML.
    ///
    /// ```
    /// let plans = quotum::Plans::from_toml(r#"
    ///     default_plan = "free"
    ///     [plans.free]
    ///     quotas = { searches = ["5/day", "50/month"] }
    /// "#)?;
    /// assert_eq!(plans.default_plan().name, "free");
    /// # Ok::<(), quotum::PlansError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PlansError`], as [`Plans::read`].
    pub fn from_toml(text: &str) -> Result<Self, PlansError> {
        read(text, document::parse_toml).map_err(|problems| PlansError { path: None, problems })
    }

    /// Reads plans from JSON.
    ///
    /// # Errors
    ///
    /// [`PlansError`], as [`Plans::read`].
    pub fn from_json(text: &str) -> Result<Self, PlansError> {
        read(text, document::parse_json).map_err(|problems| PlansError { path: None, problems })
    }
}

fn read(text: &str, parse: fn(&str) -> Result<Node, Problem>) -> Result<Plans, Vec<Problem>> {
    let document = parse(text).map_err(|problem| vec![problem])?;
    schema::read_plans(&document)
}

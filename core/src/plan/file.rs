//! Plans files: TOML or JSON, one schema, read whole or refused whole.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::document::{self, Node};
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

/// A plans file that was refused, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub struct PlansError {
    /// The file, where there was one.
    pub path: Option<PathBuf>,
    /// What is wrong, in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for PlansError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.as_ref().map_or_else(|| "plans".into(), |path| path.to_string_lossy());
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{name}")?;
            if problem.line > 0 {
                write!(f, ":{}", problem.line)?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a plans file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; 0 where the file could not be read at all.
    pub line: usize,
    /// The path of the key, such as `plans.free.quotas.searches`; empty for the file as a whole.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
}

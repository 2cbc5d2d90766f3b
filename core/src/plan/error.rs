//! What is wrong with a plans file.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

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

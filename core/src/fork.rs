//! Forks: what belongs to the process that made it, and not to a child that has inherited a copy.

use std::fmt;

/// Remembers in which process it was made. Asking costs one load.
#[derive(Clone)]
pub(crate) struct Born(forkguard::Guard);

impl Born {
    pub(crate) fn here() -> Self {
        Self(forkguard::Guard::default())
    }

    /// Whether this process is the one, and no child of it.
    pub(crate) fn is_here(&self) -> bool {
        // A copy, because the guard tells of a fork only once.
        !self.0.clone().detected_fork()
    }
}

impl fmt::Debug for Born {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_here() { "Born(here)" } else { "Born(in a parent process)" })
    }
}

//! Where a value of the configuration comes from.

use std::fmt;
use std::path::PathBuf;

/// A value that was given on the command line.
pub(crate) struct Given {
    /// The option, such as `--api`.
    pub(crate) option: &'static str,
    /// The section that it sets.
    pub(crate) section: &'static str,
    /// The key that it sets.
    pub(crate) key: &'static str,
    /// The value.
    pub(crate) value: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of a file, from 1; 0: the whole file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A file that an environment variable names.
    FileOf(String, PathBuf),
    /// An option of the command line.
    Option(&'static str),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, 0) => write!(f, "{}", file.display()),
            Self::File(file, line) => write!(f, "{}, line {line}", file.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::FileOf(name, file) => write!(f, "{}, named by {name}", file.display()),
            Self::Option(option) => write!(f, "option {option}"),
            Self::Default => write!(f, "default"),
        }
    }
}

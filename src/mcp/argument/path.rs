//! Where an argument is, built without allocating: a path becomes text only for an error or a note.

use std::fmt;

/// A place in the arguments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'a> {
    /// The arguments themselves.
    Root,
    /// A field of an object.
    Field(&'a Path<'a>, &'a str),
    /// An entry of an array.
    Entry(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(outer, name) => write!(f, "{outer}.{name}"),
            Self::Entry(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

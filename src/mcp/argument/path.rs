//! The path of an argument, built without allocation: it becomes text only for an error or a note.

use std::fmt;

/// A position in the arguments.
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

/// Returns whether two paths are equal or one contains the other. The empty path stands for the arguments
/// as a whole.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (shorter, longer) = if one.len() < other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let rest = longer.strip_prefix(shorter);
    rest.is_some_and(|rest| shorter.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_overlaps_with_what_it_leads_to() {
        for (one, other) in [
            ("items", "items"),
            ("items", "items[1].tags"),
            ("a.b", "a"),
            ("", "a"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("item", "items"),
            ("items[1]", "items[11]"),
            ("items[1].tags", "items[1].content"),
        ] {
            assert!(
                !overlap(one, other) && !overlap(other, one),
                "{one} {other}"
            );
        }
    }
}

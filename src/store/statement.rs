//! Named SQL statements.

/// Defines statements as constants, and `ALL` as the list of their names and texts, for the test that prepares
/// each one.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = $sql;)+

        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}
pub(super) use statements;

/// Adds parameters to a query, in the order of their numbers.
macro_rules! bind {
    ($query:expr => $($value:expr),+) => {
        $query$(.bind($value))+
    };
}
pub(super) use bind;

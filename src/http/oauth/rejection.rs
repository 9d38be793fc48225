//! The reasons to reject an access token.

/// The reason why an access token is rejected.
#[derive(Debug)]
pub(in crate::http) enum Rejection {
    /// It is not valid, with the reason.
    Invalid(String),
    /// It lacks a scope.
    Scope(&'static str),
    /// The keys of the issuer are not available.
    Unavailable(String),
}

//! Tokens that are stored in the database: their owner, scope and validity.

use chrono::{DateTime, Utc};

use super::Scope;

/// Maximum length of the name of a credential or a project.
pub const MAX_NAME_LENGTH: usize = 64;
/// Prefix of every token of the database, so that people and secret scanners recognize it.
pub const TOKEN_MARK: &str = "cmm_";
/// Number of stored characters of a token, by which people recognize it: the mark and six of its 43
/// others.
pub const PREFIX_LENGTH: usize = TOKEN_MARK.len() + 6;

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Owner of the token; the actor in the history.
    pub name: String,
    /// The project that it writes and reads.
    pub project: String,
    /// Further readable projects.
    pub reads: Vec<String>,
    /// Its first characters.
    pub prefix: String,
    /// When the token was created, or its secret replaced.
    pub created_at: DateTime<Utc>,
    /// End of the validity.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the token was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Returns whether the token is valid at `now`.
    #[must_use]
    pub fn holds_at(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }

    /// Returns the scope of the owner.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::new(&self.project, &self.name).reading(self.reads.iter().cloned())
    }
}

/// Returns whether a name is suitable for a credential or a project: 1 to 64 letters, digits, `.`,
/// `_` or `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_when_it_expires_or_is_revoked() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let token = Token {
            name: "laptop".to_owned(),
            project: "work".to_owned(),
            reads: vec!["team".to_owned()],
            prefix: "cmm_abcdef".to_owned(),
            created_at: at(0).expect("a time"),
            expires_at: at(10),
            revoked_at: None,
        };
        assert!(token.holds_at(at(9).expect("a time")) && !token.holds_at(at(10).expect("a time")));
        assert!(
            !Token {
                revoked_at: at(5),
                ..token.clone()
            }
            .holds_at(at(6).expect("a time"))
        );
        let scope = token.scope();
        assert_eq!((scope.project(), scope.actor()), ("work", "laptop"));
        assert_eq!(scope.readable().collect::<Vec<_>>(), ["team", "work"]);
    }
}

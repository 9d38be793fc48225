//! Decides whether a name announces a credential.

/// The kind of values that a name announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// A password, which may be short.
    Password,
    /// An API key or a secret.
    Key,
    /// A token; a UUID is more probably an ID.
    Token,
    /// A key of something unknown, such as `mailchimp_key`.
    UnknownKey,
    Other,
}

/// Last words of the names of passwords, also as the end of a longer word: `dbpassword`, `Masterpasswort`.
const PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "kennwort",
    "passcode",
    "wachtwoord",
    "lösenord",
    "contraseña",
    "contrasena",
    "пароль",
    "パスワード",
    "密码",
    "密碼",
];
/// Last words of the names of passwords that are also the end of other words.
const SHORT_PASSWORDS: &[&str] = &[
    "pwd", "pass", "pw", "psk", "passe", "senha", "hasło", "haslo",
];
const SECRETS: &[&str] = &[
    "secret",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "masterkey",
    "signingkey",
    "encryptionkey",
    "geheimnis",
];
const TOKENS: &[&str] = &["token", "schlüssel", "schluessel"];
const CREDENTIALS: &[&str] = &["credential", "credentials", "creds", "jeton"];

/// Words before `token` whose values are no credentials.
const HARMLESS_TOKENS: &[&str] = &[
    "begin",
    "bos",
    "cls",
    "continuation",
    "continue",
    "cursor",
    "design",
    "end",
    "eos",
    "first",
    "last",
    "mask",
    "max",
    "min",
    "next",
    "pad",
    "page",
    "paging",
    "pagination",
    "prev",
    "previous",
    "sep",
    "special",
    "start",
    "stop",
    "sync",
    "unk",
];
/// Words before `key` whose values are credentials.
const SECRET_KEYS: &[&str] = &[
    "access",
    "account",
    "admin",
    "aes",
    "api",
    "app",
    "application",
    "auth",
    "authentication",
    "client",
    "consumer",
    "cookie",
    "decryption",
    "deploy",
    "encrypt",
    "encryption",
    "hmac",
    "ingest",
    "integration",
    "jwt",
    "license",
    "master",
    "preshared",
    "private",
    "rest",
    "root",
    "secret",
    "security",
    "server",
    "service",
    "session",
    "shared",
    "sign",
    "signing",
    "storage",
    "subscription",
    "webhook",
    "write",
];
/// Words before `key` whose values are public or no keys of a lock.
const PUBLIC_KEYS: &[&str] = &[
    "bucket",
    "cache",
    "composite",
    "dedup",
    "dedupe",
    "file",
    "foreign",
    "group",
    "hash",
    "host",
    "idempotency",
    "index",
    "issue",
    "map",
    "object",
    "order",
    "partition",
    "primary",
    "project",
    "pub",
    "public",
    "publishable",
    "query",
    "range",
    "registry",
    "routing",
    "row",
    "s3",
    "shard",
    "site",
    "sort",
    "ssh",
    "translation",
    "unique",
];
/// Words after the name that do not change its kind: `SECRET_KEY_BASE`, `API_KEY_PROD`.
const SUFFIXES: &[&str] = &[
    "base",
    "default",
    "dev",
    "development",
    "env",
    "live",
    "new",
    "old",
    "plain",
    "prod",
    "production",
    "secondary",
    "staging",
    "str",
    "string",
    "test",
    "value",
];

/// Classifies a name by its last words. `apiKey`, `API_KEY`, `x-api-key` and `the API key` are the same name.
pub(super) fn classify_name(name: &str) -> NameKind {
    let mut words = split_words(name);
    while words.len() > 1 && words.last().is_some_and(|word| is_suffix(word)) {
        words.pop();
    }
    let Some(last) = words.pop() else {
        return NameKind::Other;
    };
    let last = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let before = words.last().map_or("", String::as_str);
    if ends_with_any(last, PASSWORDS) || SHORT_PASSWORDS.contains(&last) {
        NameKind::Password
    } else if ends_with_any(last, SECRETS) || CREDENTIALS.contains(&last) {
        NameKind::Key
    } else if ends_with_any(last, TOKENS) && !HARMLESS_TOKENS.contains(&before) {
        NameKind::Token
    } else if last == "key" && !before.is_empty() && !PUBLIC_KEYS.contains(&before) {
        classify_key(before)
    } else {
        NameKind::Other
    }
}

fn classify_key(before: &str) -> NameKind {
    if SECRET_KEYS.contains(&before) {
        NameKind::Key
    } else {
        NameKind::UnknownKey
    }
}

fn is_suffix(word: &str) -> bool {
    SUFFIXES.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit())
}

fn ends_with_any(word: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| word.ends_with(ending))
}

/// Splits a name at other characters than letters and digits, and where the case changes; returns lower case.
fn split_words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (at, &c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            words.push(String::new());
            continue;
        }
        if at > 0 && begins_word(chars[at - 1], c, chars.get(at + 1).copied()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns whether a word begins at `c`: after a lower case letter (`apiKey`), or after an acronym (`APIKey`).
fn begins_word(previous: char, c: char, next: Option<char>) -> bool {
    c.is_uppercase()
        && (previous.is_lowercase()
            || previous.is_uppercase() && next.is_some_and(char::is_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_every_case() {
        for name in [
            "DB_PASSWORD",
            "dbPassword",
            "spring.datasource.password",
            "PGPASSWORD",
            "Das Passwort",
            "pwd2",
        ] {
            assert_eq!(classify_name(name), NameKind::Password, "{name}");
        }
        for name in [
            "apiKey",
            "APIKey",
            "x-api-key",
            "the API key",
            "SECRET_KEY_BASE",
            "client_secret",
            "AccountKey",
        ] {
            assert_eq!(classify_name(name), NameKind::Key, "{name}");
        }
        for name in ["token", "_authToken", "ADMIN_TOKEN"] {
            assert_eq!(classify_name(name), NameKind::Token, "{name}");
        }
        for name in [
            "key",
            "primary_key",
            "max_tokens",
            "token_id",
            "nextPageToken",
            "password_hash",
            "PublicKey",
            "",
        ] {
            assert_eq!(classify_name(name), NameKind::Other, "{name}");
        }
    }
}

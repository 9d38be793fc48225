//! Decides whether a value looks random, or like a word, an identifier, a path, a placeholder or source code.

/// Names of algorithms, which stand where a password could stand.
const ALGORITHMS: &[&str] = &[
    "argon2", "argon2i", "argon2id", "bcrypt", "blake2b", "blake3", "ed25519", "hs256", "hs512",
    "md5", "pbkdf2", "plain1", "rs256", "scrypt", "sha1", "sha256", "sha512", "sha-256", "sha-512",
    "x25519",
];

/// Prefixes of values that are a hash, an image or a public key.
const PUBLIC_PREFIXES: &[&str] = &[
    "sha1:", "sha256:", "sha384:", "sha512:", "sha1-", "sha256-", "sha384-", "sha512-", "md5:",
    "data:", "ssh-", "age1",
];

/// Longest part of digits in an identifier, such as a year.
const LONGEST_NUMBER: usize = 4;

/// Longest part of digits alone, such as a date or the number of a project.
const LONGEST_ID: usize = 8;

/// The classes of characters in a value.
#[derive(Debug, Clone, Copy, Default)]
struct Classes {
    lower: usize,
    upper: usize,
    digits: usize,
    symbols: usize,
}

impl Classes {
    fn of(value: &str) -> Self {
        let mut classes = Self::default();
        for c in value.chars() {
            match c {
                'a'..='z' => classes.lower += 1,
                'A'..='Z' => classes.upper += 1,
                '0'..='9' => classes.digits += 1,
                c if c.is_alphabetic() => classes.lower += 1,
                _ => classes.symbols += 1,
            }
        }
        classes
    }

    fn letters(self) -> usize {
        self.lower + self.upper
    }

    fn count(self) -> usize {
        [self.lower, self.upper, self.digits, self.symbols]
            .into_iter()
            .filter(|count| *count > 0)
            .count()
    }
}

/// Returns whether a value that is assigned to a password could be one: short values count, but not plain words.
pub(crate) fn is_password(value: &str) -> bool {
    let classes = Classes::of(value);
    let is_mixed = classes.digits > 0 && classes.letters() > 0;
    value.chars().count() >= 8
        && (is_mixed && classes.digits + classes.letters() >= 6 || has_random_case(value))
        && !is_public_text(value)
}

/// Returns whether a value that is assigned to a key or token is random.
pub(crate) fn is_random_key(value: &str) -> bool {
    let classes = Classes::of(value);
    let is_mixed = classes.digits > 0 && classes.letters() > 0;
    let length = value.chars().count();
    let is_long_enough = length >= 16 || length >= 12 && classes.count() >= 3;
    is_long_enough
        && (is_mixed || has_random_case(value))
        && !is_numbered_name(value)
        && bits_per_char(value) >= 2.5
        && !is_public_text(value)
}

/// Returns whether a value is random without any doubt, for places where no name announces a credential.
pub(crate) fn is_strongly_random(value: &str) -> bool {
    let classes = Classes::of(value);
    value.chars().count() >= 10
        && classes.lower > 0
        && classes.upper > 0
        && (classes.digits > 0 || has_random_case(value))
        && !is_numbered_name(value)
        && bits_per_char(value) >= 2.8
        && !is_public_text(value)
}

/// Returns whether a value in a URL or command is a password, and not a placeholder or a default of documentation.
pub(crate) fn is_written_password(value: &str) -> bool {
    const WELL_KNOWN: &[&str] = &[
        "admin",
        "changeme",
        "guest",
        "pass",
        "password",
        "postgres",
        "root",
        "secret",
        "test",
        "passwd",
        "pw",
        "token",
        "user",
        "pwd",
        "your_password",
        "your-password",
        "yourpassword",
        "mypassword",
        "hunter2",
    ];
    let lower = value.to_ascii_lowercase();
    value.len() >= 3 && !is_placeholder(value) && !WELL_KNOWN.contains(&lower.as_str())
}

/// Returns whether a value is a UUID.
pub(crate) fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Returns whether a text is not a credential because of its form.
fn is_public_text(value: &str) -> bool {
    is_placeholder(value)
        || is_identifier(value)
        || is_time_or_number(value)
        || is_source_code(value)
        || value.contains("://")
        || PUBLIC_PREFIXES
            .iter()
            .any(|prefix| value.starts_with(prefix))
        || ALGORITHMS.contains(&value.to_ascii_lowercase().as_str())
}

/// Returns whether a value stands for another: `${NAME}`, `<name>`, `%NAME%`, `****`, `xxxx`, a pattern and the like.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let begins_reference = |prefix: &str, following: fn(char) -> bool| {
        value
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(following))
    };
    let is_name_start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '{' || c == '(';
    let distinct = count_distinct(value);
    begins_reference("$", is_name_start)
        || value.starts_with("{{")
        || value.starts_with("${")
        || value.starts_with('<') && value.contains('>')
        || is_marker(value)
        || value.len() > 2 && value.starts_with('%') && value.ends_with('%')
        || value.starts_with('{') && value.ends_with('}')
        || value.contains("...")
        || ["[A-Z", "[a-z", "[0-9"]
            .iter()
            .any(|class| value.contains(class))
        || value.contains('…')
        || value.contains("***")
        || value.to_ascii_lowercase().contains("xxxx")
        || distinct < 4
}

/// Returns whether the mark of an earlier masking begins in the value.
fn is_marker(value: &str) -> bool {
    value.contains("[secret")
}

/// Returns whether all parts of a value are words or short numbers: `my-app-secret-v2`, `/run/secrets/db_password`.
/// A single part with a digit is no identifier, because it may be a weak password.
pub(crate) fn is_identifier(value: &str) -> bool {
    let is_separator = |c: char| "-_./:\\~@".contains(c);
    // Optional access in source code.
    let value = value.replace("?.", ".");
    let mut parts = value.split(is_separator).filter(|part| !part.is_empty());
    let has_separator = value.contains(is_separator);
    let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
    (has_separator || !has_digit) && parts.all(|part| is_wordlike(part) && !has_random_case(part))
}

/// Returns whether a value is a long name with a short number, such as `ServiceAccountVolume2`.
fn is_numbered_name(value: &str) -> bool {
    value.len() >= 12 && is_wordlike(value) && !has_random_case(value)
}

/// Returns whether a part consists of letters, of a short number, or of letters and a short number.
fn is_wordlike(part: &str) -> bool {
    let stem = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = part.len() - stem.len();
    if stem.is_empty() {
        return number <= LONGEST_ID;
    }
    number <= LONGEST_NUMBER
        && stem.chars().all(char::is_alphabetic)
        && (number == 0 || stem.len() != 1 || part.len() <= 3)
        && !is_mixed_acronym(stem)
}

/// Returns whether upper and lower case alternate as in random letters, such as `qXzT`, which no name has.
fn is_mixed_acronym(stem: &str) -> bool {
    stem.len() >= 4 && case_changes(stem) * 2 > stem.len() + 1
}

/// Returns whether letters change their case more often than in camel case.
fn has_random_case(value: &str) -> bool {
    let letters: String = value.chars().filter(char::is_ascii_alphabetic).collect();
    letters.len() >= 14 && case_changes(&letters) * 5 >= letters.len() * 2
}

fn case_changes(letters: &str) -> usize {
    let cases: Vec<bool> = letters.chars().map(char::is_uppercase).collect();
    cases.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Returns whether a value consists of digits and their punctuation: versions, times, addresses.
fn is_time_or_number(value: &str) -> bool {
    value
        .chars()
        .all(|c| c.is_ascii_digit() || "TZ:.,+-_/".contains(c))
}

/// Returns whether a value is an expression: names without digits, joined by dots, followed by a bracket or nothing.
fn is_source_code(value: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphabetic() || "_.:?&*!>-".contains(c);
    let end = value.find(|c| !is_name_char(c)).unwrap_or(value.len());
    let name = value[..end].trim_start_matches(['&', '*', '!']);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !has_random_case(name)
        && name
            .split(['.', ':', '-', '>', '?'])
            .all(|part| !is_mixed_acronym(part));
    is_name
        && match value[end..].chars().next() {
            Some('(') => name.contains(['.', ':']) || closes_or_ends(&value[end..], ')'),
            Some('[') => closes_or_ends(&value[end..], ']'),
            Some('{' | ';' | '<') => true,
            _ => false,
        }
}

/// Returns whether the bracket is closed, or the value ends in arguments such as `(min_length=14,`.
fn closes_or_ends(rest: &str, closing: char) -> bool {
    rest.contains(closing) || rest.len() == 1 || rest.ends_with(',') || rest.contains('=')
}

fn count_distinct(value: &str) -> usize {
    count_bytes(value)
        .iter()
        .filter(|count| **count > 0)
        .count()
}

fn count_bytes(value: &str) -> [u32; 256] {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    counts
}

/// Returns the Shannon entropy of the bytes.
fn bits_per_char(value: &str) -> f64 {
    let counts = count_bytes(value);
    let total = f64::from(counts.iter().sum::<u32>());
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_identifiers_paths_and_code_are_not_random() {
        for value in [
            "changeme",
            "my-app-secret-v2",
            "/run/secrets/db_password",
            "sentence-transformers/all-MiniLM-L6-v2",
            "customer_identifier_and_order_number",
            "2026-09-14T03:10:22.481Z",
            "lexer.next_token();",
            "os.environ[\"DB_PASSWORD\"]",
            "SecretKeyProviderFactoryBean",
            "${API_KEY}",
            "$TOKEN",
            "{{ .Values.auth.secret }}",
            "****************",
            "sha256:18ac3e7343f016890c510e93f9352611",
            "argon2id",
            "HashMap<[u8",
            "Token::new(Kind::Ident2",
            "session?.accessToken2",
            "projects/fake-demo-447812/secrets/stripe-key/versions/3",
            "cmm_[A-Za-z0-9_-]{43}",
        ] {
            assert!(!is_password(value), "{value}");
            assert!(!is_random_key(value), "{value}");
            assert!(!is_strongly_random(value), "{value}");
        }
    }

    #[test]
    fn random_values_are_found() {
        for value in [
            "KN5Tcgv_gLfd6uJEtu",
            "QlAn8Wfu4!+_HbyOfY",
            "eb58941a760f5858236b9800a98300d54da1cb14",
            "xKqPzRtWvBnMcXsDfG",
        ] {
            assert!(is_password(value), "{value}");
            assert!(is_random_key(value), "{value}");
        }
        assert!(is_password("Sommer2024!"));
        assert!(!is_random_key("ServiceAccountTokenVolumeProjection2"));
    }
}

//! Bearer tokens of clients. Only their hashes are kept.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

/// Minimum length of a token, because shorter ones can be guessed.
pub const MIN_TOKEN_LENGTH: usize = 16;

/// Project of a credential that names none.
const DEFAULT_PROJECT: &str = "default";

/// Maximum length of the name of a credential or project.
const MAX_NAME_LENGTH: usize = 64;

/// A client that may use the service.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Appears in logs.
    pub name: String,
    /// The project that it writes and reads.
    pub project: String,
    /// Other projects that it reads.
    pub reads: Vec<String>,
    /// SHA-256 of the token. Compare it in constant time.
    pub sha256: [u8; 32],
}

// The token can be guessed from the hash of a weak one, so the hash is not printed either.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("project", &self.project)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

/// Returns the hash of a token.
pub fn sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Returns whether a name is valid for a credential or a project: 1 to 64 letters, digits, `.`, `_`
/// or `-`.
pub fn is_credential_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Parses all lines. Each fault names its line and never its text.
pub(super) fn parse_lines(text: &str) -> Result<Vec<Credential>, Vec<String>> {
    let mut credentials = Vec::new();
    let mut faults = Vec::new();
    let mut names = BTreeMap::new();
    let mut hashes = BTreeMap::new();
    let numbered = text
        .lines()
        .zip(1..)
        .map(|(line, number)| (line.trim(), number));
    for (line, number) in numbered.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let credential = match parse_line(line) {
            Ok(credential) => credential,
            Err(fault) => {
                faults.push(format!("line {number}: {fault}"));
                continue;
            }
        };
        let mut is_new = true;
        if let Some(first) = names.insert(credential.name.clone(), number) {
            faults.push(format!("line {number}: repeats the name of line {first}"));
            is_new = false;
        }
        if let Some(first) = hashes.insert(credential.sha256, number) {
            faults.push(format!("line {number}: repeats the token of line {first}"));
            is_new = false;
        }
        if is_new {
            credentials.push(credential);
        }
    }
    if credentials.is_empty() && faults.is_empty() {
        faults.push("there is no credential in it".to_owned());
    }
    if faults.is_empty() {
        Ok(credentials)
    } else {
        Err(faults)
    }
}

fn parse_line(line: &str) -> Result<Credential, String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(token)) = (words.next(), words.next()) else {
        return Err("a name and a token are expected".to_owned());
    };
    if !is_credential_name(name) {
        return Err(format!(
            "a name has 1 to {MAX_NAME_LENGTH} letters, digits, `.`, `_` or `-`"
        ));
    }
    let (mut project, mut reads) = (None, None);
    for word in words {
        match word.split_once('=') {
            Some(("project", name)) if project.is_none() => project = Some(project_name(name)?),
            Some(("read", names)) if reads.is_none() => {
                reads = Some(
                    names
                        .split(',')
                        .map(project_name)
                        .collect::<Result<Vec<String>, String>>()?,
                );
            }
            Some(("project" | "read", _)) => {
                return Err("`project=` and `read=` are allowed once each".to_owned());
            }
            _ => {
                return Err(
                    "only `project=NAME` and `read=NAME,NAME` may follow the token".to_owned(),
                );
            }
        }
    }
    let sha256 = match token.strip_prefix("sha256:") {
        Some(hex) => from_hex(hex).ok_or("64 hexadecimal digits are expected after `sha256:`")?,
        // A token must be valid in an HTTP header.
        None if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Err("a token has ASCII characters only".to_owned());
        }
        None if token.len() < MIN_TOKEN_LENGTH => {
            return Err(format!(
                "a token has at least {MIN_TOKEN_LENGTH} characters"
            ));
        }
        None => sha256(token),
    };
    Ok(Credential {
        name: name.to_owned(),
        project: project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        reads: reads.unwrap_or_default(),
        sha256,
    })
}

fn project_name(name: &str) -> Result<String, String> {
    if is_credential_name(name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "a project has 1 to {MAX_NAME_LENGTH} letters, digits, `.`, `_` or `-`"
    ))
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn lines_become_credentials() {
        let text = format!(
            "# people\n\n  alice 0123456789abcdef\r\nbob\tsha256:{} read=team,shared project=work\n",
            ABC.to_uppercase()
        );
        let credentials = parse_lines(&text).expect("valid lines");
        assert_eq!(credentials.len(), 2);
        assert_eq!(
            (
                credentials[0].name.as_str(),
                credentials[0].project.as_str()
            ),
            ("alice", "default")
        );
        assert_eq!(credentials[0].sha256, sha256("0123456789abcdef"));
        assert_eq!(
            (
                credentials[1].name.as_str(),
                credentials[1].project.as_str()
            ),
            ("bob", "work")
        );
        assert_eq!(credentials[1].sha256, sha256("abc"));
        assert_eq!(credentials[1].reads, ["team", "shared"]);
    }

    #[test]
    fn every_bad_line_is_named_and_none_is_shown() {
        let text = "a\nb short-secret\nc sha256:12\nd! 0123456789abcdef\ne 0123456789abcdef x\nf 0123456789abcdef project=\n\
                    g 0123456789abcdef project=p project=q\ni 0123456789abcdef read=\nj 0123456789abcdef read=a,!\nh 0123456789abcdé✓f\nok 0123456789abcdef\nok 0123456789abcdeg\nz 0123456789abcdef";
        let faults = parse_lines(text).expect_err("bad lines");
        insta::assert_snapshot!(faults.join("\n"));
        assert!(!faults.join("").contains("secret") && !faults.join("").contains("0123"));
    }

    #[test]
    fn nothing_is_a_fault() {
        assert_eq!(
            parse_lines("# nobody\n"),
            Err(vec!["there is no credential in it".to_owned()])
        );
    }

    #[test]
    fn debug_shows_no_hash() {
        let text = format!(
            "{:?}",
            parse_lines("alice 0123456789abcdef").expect("valid line")
        );
        assert_eq!(
            text,
            r#"[Credential { name: "alice", project: "default", reads: [], .. }]"#
        );
    }

    proptest! {
        #[test]
        fn a_token_and_its_hash_are_the_same_credential(token in "[!-~]{16,80}") {
            prop_assume!(!token.starts_with("sha256:"));
            let hex: String = sha256(&token).iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(parse_lines(&format!("a {token}")), parse_lines(&format!("a sha256:{hex}")));
        }

        #[test]
        fn anything_is_read_without_a_panic(text in "(?s).{0,200}") {
            let _ = parse_lines(&text);
        }
    }
}

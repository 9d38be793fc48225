//! The filter finds every planted credential, leaves other texts alone, and masks each text once.

use proptest::prelude::*;
use secret_filter::{find_named_secrets, find_secrets, mask, rule_names};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    text: String,
    secrets: Vec<String>,
    #[serde(default)]
    format: String,
}

fn read_cases() -> Vec<Case> {
    include_str!("../../../tests/data/secrets.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect()
}

fn masked(text: &str) -> String {
    mask(text).unwrap_or_else(|| text.to_owned())
}

#[test]
fn planted_secrets_are_removed() {
    let cases = read_cases();
    let with_secrets: Vec<&Case> = cases
        .iter()
        .filter(|case| !case.secrets.is_empty())
        .collect();
    assert_eq!(with_secrets.len(), 145);
    let leaked: Vec<(&str, &str)> = with_secrets
        .iter()
        .flat_map(|case| {
            case.secrets
                .iter()
                .map(|secret| (case.text.as_str(), secret.as_str()))
        })
        .filter(|(text, secret)| masked(text).contains(secret))
        .collect();
    assert!(leaked.is_empty(), "{} leaked: {leaked:#?}", leaked.len());
}

#[test]
fn other_texts_survive() {
    let cases = read_cases();
    let others: Vec<&Case> = cases
        .iter()
        .filter(|case| case.secrets.is_empty())
        .collect();
    assert_eq!(others.len(), 158);
    let changed: Vec<(&str, String)> = others
        .iter()
        .filter_map(|case| Some((case.text.as_str(), mask(&case.text)?)))
        .collect();
    assert!(
        changed.is_empty(),
        "{} changed: {changed:#?}",
        changed.len()
    );
}

#[test]
fn masking_twice_changes_nothing() {
    for case in read_cases() {
        let once = masked(&case.text);
        assert_eq!(mask(&once), None, "{once}");
    }
}

#[test]
fn text_around_a_secret_survives() {
    let text = "Der Schlüssel ghp_DILBZwls9FjJiDjsHzEeZukFFLPS9rxHh8MU gehört Inés; bitte löschen.";
    let expected = "Der Schlüssel [secret removed: github-token] gehört Inés; bitte löschen.";
    assert_eq!(masked(text), expected);
}

/// Forms in which the value of a setting is written.
#[test]
fn assigned_values_are_found_in_every_notation() {
    let secret = "t5hQeRYFcCPi9GM0vFRbfL9D4RJhMpE6";
    for text in [
        format!("API_KEY={secret}"),
        format!("export API_KEY='{secret}'"),
        format!("apiKey: \"{secret}\""),
        format!("{{\\\"apiKey\\\": \\\"{secret}\\\"}}"),
        format!("api_key => `{secret}`"),
        format!("const API_KEY: &str = \"{secret}\";"),
        format!("val apiKey: String = \"{secret}\""),
        format!("os.environ[\"API_KEY\"] = \"{secret}\""),
        format!("setenv(\"API_KEY\", \"{secret}\", 1)"),
        format!("request.header('x-api-key', '{secret}')"),
        format!("<apiKey>{secret}</apiKey>"),
        format!("<add key=\"ApiKey\" value=\"{secret}\" />"),
        format!("- name: API_KEY\n  value: {secret}"),
        format!("https://api.fake.example/v1?lang=de&api_key={secret}&page=2"),
        format!("**API key:** {secret}"),
        format!("API key (staging): {secret}."),
        format!("Passwort:\n{secret}"),
        format!("The token for the new server is {secret}, valid until May."),
        format!("tool --api-key {secret} list"),
        format!("パスワード：{secret}").replace('：', ":"),
    ] {
        let result = masked(&text);
        assert!(!result.contains(secret), "{text}\n{result}");
        assert!(result.len() > text.len() - secret.len(), "{result}");
    }
}

#[test]
fn fields_of_an_object_are_judged_by_their_names() {
    let secret = "t5hQeRYFcCPi9GM0vFRbfL9D4RJhMpE6";
    assert_eq!(find_named_secrets("api_key", secret).len(), 1);
    assert_eq!(find_named_secrets("password", "Sommer2024!").len(), 1);
    assert!(find_named_secrets("commit", "7a81af3e591ac713f81ea1efe93dcf36157d8376").is_empty());
    assert!(find_named_secrets("password", "see the vault").is_empty());
}

#[test]
fn unfinished_private_key_is_removed() {
    let line = "93869zgLDIPwYnfwRXYH29JhPsRjSC4QQTLkn4ixmPogzn88NAfGSO11T//ahLRN";
    let text =
        format!("Key:\n-----BEGIN RSA PRIVATE KEY-----\n{line}\n{line}\n\nÜber den Rest später.");
    let result = masked(&text);
    assert!(!result.contains(line), "{result}");
    assert!(result.ends_with("Über den Rest später."), "{result}");
}

#[test]
fn names_of_rules_are_words() {
    let names = rule_names();
    assert!(names.len() >= 100, "{}", names.len());
    assert!(
        names
            .iter()
            .all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
    );
}

/// Hostile texts: repeated beginnings of credentials that never end. Quadratic time would exceed the time limit of a
/// test.
#[test]
fn large_hostile_texts_are_scanned_in_linear_time() {
    for piece in [
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA",
        "password: ",
        "a:1:b:c:",
        "https://a:b",
        "curl -u a",
        "eyJaaaaaaaaaa.",
        "=:=:=:",
        "((((((((=",
        "mysql -p",
        "name value= ",
        "M23456789012345678901234.",
    ] {
        let text = piece.repeat(256 * 1024 / piece.len());
        let found = find_secrets(&text);
        assert!(
            found.iter().all(|secret| secret.range.end <= text.len()),
            "{piece:?}"
        );
    }
}

fn token() -> impl Strategy<Value = (String, &'static str)> {
    prop_oneof![
        "ghp_[A-Za-z0-9]{36}".prop_map(|text| (text, "github-token")),
        "AKIA[A-Z2-7]{16}".prop_map(|text| (text, "aws-access-key")),
        "glpat-[A-Za-z0-9]{20}".prop_map(|text| (text, "gitlab-token")),
        "sk_live_[A-Za-z0-9]{24}".prop_map(|text| (text, "stripe-key")),
        "hf_[A-Za-z0-9]{34}".prop_map(|text| (text, "huggingface-token")),
    ]
}

proptest! {
    #[test]
    fn planted_passwords_with_other_characters_are_removed(
        index in any::<prop::sample::Index>(),
        letters in prop::collection::vec(any::<u8>(), 64),
    ) {
        let cases = read_cases();
        let cases: Vec<&Case> = cases.iter().filter(|case| has_only_random_secrets(case)).collect();
        let case = index.get(&cases);
        let mut text = case.text.clone();
        for secret in &case.secrets {
            text = text.replace(secret, &exchange_letters(secret, &letters));
        }
        let result = masked(&text);
        for secret in &case.secrets {
            let changed = exchange_letters(secret, &letters);
            prop_assert!(!result.contains(&changed), "{}", text);
        }
    }

    #[test]
    fn tokens_are_found_between_any_texts(
        before in "[^A-Za-z0-9_]{0,40}",
        (token, _) in token(),
        after in "([^A-Za-z0-9_-]\\PC{0,40})?",
    ) {
        let result = masked(&format!("{before}{token}{after}"));
        prop_assert!(!result.contains(&token), "{}", result);
    }

    #[test]
    fn arbitrary_text_never_panics_and_is_masked_once(text in "\\PC{0,300}") {
        let once = masked(&text);
        prop_assert_eq!(masked(&once), once.clone());
    }

    #[test]
    fn texts_of_fragments_are_masked_once(parts in prop::collection::vec(fragment(), 0..24)) {
        let once = masked(&parts.concat());
        prop_assert_eq!(masked(&once), once.clone());
    }

    #[test]
    fn hashes_and_ids_survive(hex in "[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{32}", word in "[a-z]{3,12}") {
        for text in [
            format!("commit {hex} of {word}"),
            format!("{word}@sha256:{hex}"),
            format!("{word}_id={hex}"),
            format!("checksum = \"{hex}\""),
        ] {
            prop_assert_eq!(mask(&text), None, "{}", text);
        }
    }
}

/// Returns whether the credentials of a case are random from the first character.
fn has_only_random_secrets(case: &Case) -> bool {
    const RANDOM: [&str; 17] = [
        "assignment",
        "amqp-url",
        "basic-auth-command",
        "basic-auth-url",
        "cloudflare-token",
        "jdbc-string",
        "mongodb-url",
        "mssql-string",
        "mysql-command",
        "mysql-url",
        "netrc",
        "pgpass",
        "postgres-url",
        "redis-url",
        "azure-storage-key",
        "aws-secret-key",
        "wireguard-private-key",
    ];
    RANDOM.contains(&case.format.as_str())
}

/// Replaces each letter and digit by another one of its class, so that the value stays as mixed as it was.
fn exchange_letters(secret: &str, letters: &[u8]) -> String {
    let is_hex = secret.bytes().all(|byte| byte.is_ascii_hexdigit());
    let exchange = |(c, random): (char, &u8)| match c {
        'a'..='f' if is_hex => char::from(b'a' + random % 6),
        'a'..='z' => char::from(b'a' + random % 26),
        'A'..='Z' => char::from(b'A' + random % 26),
        '0'..='9' => char::from(b'0' + random % 10),
        other => other,
    };
    secret
        .chars()
        .zip(letters.iter().cycle())
        .map(exchange)
        .collect()
}

/// Pieces of which credentials and their surroundings consist.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("password".to_owned()),
        Just("Passwort ist ".to_owned()),
        Just("api_key".to_owned()),
        Just("token ".to_owned()),
        Just("https://user:".to_owned()),
        Just("@host/".to_owned()),
        Just("-----BEGIN PRIVATE KEY-----\n".to_owned()),
        Just("-----END PRIVATE KEY-----".to_owned()),
        Just("[secret removed: jwt]".to_owned()),
        Just("Bearer ".to_owned()),
        "[=:,; \"'\n&]{1,3}",
        "[A-Za-z0-9+/]{8,44}",
        "ghp_[A-Za-z0-9]{36}",
    ]
}

//! The header of a JWT, read before its signature is checked, and its claims, read afterwards.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::config::OAuth;

/// Accepted difference between clocks.
const LEEWAY_SECONDS: f64 = 30.0;

/// The accepted signatures. `none` and keyed hashes are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// The header of a token.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl Header {
    pub(super) fn parse_header(text: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(text)
            .map_err(|_| "its header is not that of a JWT".to_owned())?;
        let algorithm = match fields.alg.as_str() {
            "RS256" => Algorithm::Rs256,
            "ES256" => Algorithm::Es256,
            "EdDSA" | "Ed25519" => Algorithm::EdDsa,
            _ => return Err("it is not signed with RS256, ES256 or EdDSA".to_owned()),
        };
        if fields.crit.is_some() {
            return Err("its header demands extensions that are not known here".to_owned());
        }
        let kind = fields.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !matches!(kind.trim_start_matches("application/"), "jwt" | "at+jwt") {
            return Err("it is not an access token".to_owned());
        }
        Ok(Self {
            algorithm,
            key: fields.kid,
        })
    }
}

/// Checks issuer, audience and time.
pub(super) fn check_claims(
    claims: &Value,
    settings: &OAuth,
    now: DateTime<Utc>,
) -> Result<(), String> {
    if claims["iss"].as_str() != Some(&settings.issuer) {
        return Err("it is of another issuer".to_owned());
    }
    let meant = match &claims["aud"] {
        Value::String(audience) => *audience == settings.audience,
        Value::Array(audiences) => audiences
            .iter()
            .any(|audience| audience.as_str() == Some(&settings.audience)),
        _ => false,
    };
    if !meant {
        return Err("it is for another audience".to_owned());
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of our time are far below 2^53"
    )]
    let now = now.timestamp_millis() as f64 / 1000.0;
    match claims["exp"].as_f64() {
        Some(end) if now < end + LEEWAY_SECONDS => {}
        Some(_) => return Err("it has expired".to_owned()),
        None => return Err("it has no time at which it expires".to_owned()),
    }
    match (claims.get("nbf"), claims["nbf"].as_f64()) {
        (None, _) => Ok(()),
        (Some(_), Some(start)) if now >= start - LEEWAY_SECONDS => Ok(()),
        (Some(_), Some(_)) => Err("it is not valid yet".to_owned()),
        (Some(_), None) => Err("its claim nbf is not a time".to_owned()),
    }
}

/// Returns the scopes. RFC 9068 has them in one string, some issuers in a list.
pub(super) fn read_scopes(claims: &Value) -> Vec<&str> {
    ["scope", "scp"]
        .into_iter()
        .flat_map(|claim| match &claims[claim] {
            Value::String(text) => text.split(' ').collect(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> OAuth {
        OAuth {
            issuer: "https://i".into(),
            audience: "https://a".into(),
            project_claim: "p".into(),
        }
    }

    #[test]
    fn only_what_is_meant_for_us_and_for_now_passes() {
        let now = DateTime::from_timestamp(1_000_000, 0).expect("a time");
        let good = json!({"iss": "https://i", "aud": ["x", "https://a"], "exp": 1_000_001, "nbf": 999_999});
        assert_eq!(check_claims(&good, &settings(), now), Ok(()));
        for (claim, value) in [
            ("iss", json!("https://i/")),
            ("iss", json!(["https://i"])),
            ("aud", json!("https://a/")),
            ("aud", json!([])),
            ("aud", json!(null)),
            ("exp", json!(999_970)),
            ("exp", json!("1000001")),
            ("exp", json!(null)),
            ("nbf", json!(1_000_031)),
            ("nbf", json!("0")),
        ] {
            let mut claims = good.clone();
            claims[claim] = value;
            assert!(check_claims(&claims, &settings(), now).is_err(), "{claims}");
        }
        let mut late = good.clone();
        late["exp"] = json!(999_971.5);
        assert_eq!(
            check_claims(&late, &settings(), now),
            Ok(()),
            "clocks differ"
        );
    }

    #[test]
    fn scopes_are_whole_words() {
        assert_eq!(
            read_scopes(&json!({"scope": "memory:read openid"})),
            ["memory:read", "openid"]
        );
        assert_eq!(
            read_scopes(&json!({"scp": ["memory:write"]})),
            ["memory:write"]
        );
        assert!(read_scopes(&json!({"scope": 7})).is_empty());
    }

    #[test]
    fn only_signatures_with_public_keys_are_tried() {
        let read = |header: Value| Header::parse_header(header.to_string().as_bytes());
        for alg in ["none", "HS256", "RS1", "rs256", "PS256", ""] {
            assert!(read(json!({"alg": alg})).is_err(), "{alg}");
        }
        assert!(read(json!({"alg": "RS256", "crit": ["b64"]})).is_err());
        assert!(read(json!({"alg": "RS256", "typ": "logout+jwt"})).is_err());
        let header = read(json!({"alg": "ES256", "typ": "application/at+JWT", "kid": "k"}))
            .expect("a header");
        assert_eq!(
            (header.algorithm, header.key.as_deref()),
            (Algorithm::Es256, Some("k"))
        );
    }
}

//! Values that are assigned to the name of a credential, in settings files, JSON, YAML, source code, markup, query
//! strings and prose: `DB_PASSWORD=…`, `"apiKey": "…"`, `Passwort: …`, `The token is …`.

mod name;
mod prose;
mod site;

use crate::rule::{ASSIGNED_SECRET, PASSWORD};
use crate::secret::Secret;
use crate::value::{is_password, is_random_key, is_strongly_random, is_uuid};
use name::NameKind;
use site::{Site, find_sites};

/// Minimum length of a value of an unknown kind of key.
const SHORTEST_UNKNOWN: usize = 20;
/// Maximum length of a named value that is judged; a longer one is data.
const LONGEST_VALUE: usize = 4096;

/// Finds random values that are assigned to the name of a credential.
pub(crate) fn find_assigned_secrets(text: &str) -> Vec<Secret> {
    let mut secrets: Vec<Secret> = find_sites(text)
        .filter_map(|site| judge_site(text, &site))
        .collect();
    secrets.extend(prose::find_stated_secrets(text));
    secrets
}

/// Returns the rule that finds a credential in a pair of a name and a value.
pub(crate) fn judge_pair(name: &str, value: &str) -> Option<&'static str> {
    let is_one_word = !value.chars().any(char::is_whitespace);
    is_one_word.then(|| judge(name::classify_name(name), value))?
}

fn judge_site(text: &str, site: &Site) -> Option<Secret> {
    let kind = name::classify_name(&text[site.name.clone()]);
    if kind == NameKind::Other {
        return None;
    }
    let found = site.read_value(text)?;
    let value = &text[found.range.clone()];
    let rule = judge(kind, value)?;
    (!found.is_on_next_line || is_strongly_random(value)).then_some(Secret {
        range: found.range,
        rule,
    })
}

fn judge(kind: NameKind, value: &str) -> Option<&'static str> {
    if value.len() > LONGEST_VALUE {
        return None;
    }
    match kind {
        NameKind::Password => (is_password(value) || is_uuid(value)).then_some(PASSWORD),
        NameKind::Key => (is_random_key(value) || is_uuid(value)).then_some(ASSIGNED_SECRET),
        NameKind::Token => is_random_key(value)
            .then_some(ASSIGNED_SECRET)
            .filter(|_| !is_uuid(value)),
        NameKind::UnknownKey => {
            let is_long = value.len() >= SHORTEST_UNKNOWN;
            (is_long && is_strongly_random(value)).then_some(ASSIGNED_SECRET)
        }
        NameKind::Other => None,
    }
}

//! Plans the edit of a client's settings: from the text before to the text after.

use serde_json::Value;

use crate::change::{Action, Outcome, PlanError, Planned, Request, split_byte_order_mark};
use crate::client::{Client, Dialect};
use crate::entry::{
    Connection, DEFAULT_NAME, Target, connection_of, describe_entry, entry_fields, is_ours,
    needs_command, refers_to_token,
};
use crate::{json, toml};

/// Plans to add, update or remove the server in the text of a client's file. `None` is a file that does not exist.
///
/// # Errors
/// Fails if the text is malformed, or if another server has the name.
pub fn plan_server(
    client: &Client,
    text: Option<&str>,
    request: &Request,
) -> Result<Planned, PlanError> {
    let before = text.unwrap_or_default();
    let Some(dialect) = client.dialect() else {
        return Ok(unchanged(before, Outcome::NotConnected));
    };
    let (mark, body) = split_byte_order_mark(before);
    let editor = Editor { dialect };
    let servers = editor.list_servers(body)?;
    let planned = match request.action {
        Action::Connect => plan_addition(client, &editor, body, &servers, request)?,
        Action::Remove => plan_removal(&editor, body, &servers, request)?,
    };
    Ok(Planned {
        text: format!("{mark}{}", planned.text),
        ..planned
    })
}

/// Returns the entries of this program in the text of a client's file, with their names.
///
/// # Errors
/// Fails if the text is malformed.
pub fn list_connections(
    client: &Client,
    text: &str,
) -> Result<Vec<(String, Connection)>, PlanError> {
    let Some(dialect) = client.dialect() else {
        return Ok(Vec::new());
    };
    let (_, body) = split_byte_order_mark(text);
    let servers = Editor { dialect }.list_servers(body)?;
    let ours = servers
        .into_iter()
        .filter(|(name, entry)| is_ours(name, entry, DEFAULT_NAME, None));
    Ok(ours
        .filter_map(|(name, entry)| Some((name, connection_of(&entry)?)))
        .collect())
}

fn unchanged(text: &str, outcome: Outcome) -> Planned {
    Planned {
        text: text.to_owned(),
        outcome,
    }
}

fn plan_addition(
    client: &Client,
    editor: &Editor,
    text: &str,
    servers: &[(String, Value)],
    request: &Request,
) -> Result<Planned, PlanError> {
    if let Target::Service { url, .. } = &request.target
        && needs_command(editor.dialect, &request.target)
        && !url.starts_with("http://")
    {
        return Err(PlanError::NoSafeToken {
            client: client.title,
            url: url.clone(),
        });
    }
    let (name, existing) = choose_entry(servers, request)?;
    // An entry of the other kind has fields that would contradict the new ones.
    let kept = existing.filter(|entry| {
        let is_command = matches!(connection_of(entry), Some(Connection::Command { .. }));
        is_command == needs_command(editor.dialect, &request.target)
    });
    let fields = entry_fields(editor.dialect, &request.target, kept);
    let mut after = match editor.dialect {
        Dialect::Codex => toml::set_server(text, name, kept.is_some(), &fields)?,
        _ => json::set_server(text, editor.container(), name, kept.is_some(), &fields)?,
    };
    if editor.dialect == Dialect::VsCode && refers_to_token(editor.dialect, &request.target) {
        after = json::add_token_input(&after)?;
    }
    let outcome = match existing {
        None => Outcome::Added,
        Some(_) if after == text => Outcome::AlreadyConnected,
        Some(_) => Outcome::Updated,
    };
    Ok(Planned {
        text: after,
        outcome,
    })
}

/// Returns the name for the entry, and the entry of this program that already has it.
fn choose_entry<'a>(
    servers: &'a [(String, Value)],
    request: &'a Request,
) -> Result<(&'a str, Option<&'a Value>), PlanError> {
    let wanted = request.name.as_deref().unwrap_or(DEFAULT_NAME);
    let ours = list_own_entries(servers, request);
    if let Some((name, entry)) = ours.iter().find(|(name, _)| name == wanted) {
        return Ok((name, Some(entry)));
    }
    if request.name.is_none()
        && let Some((name, entry)) = ours.first()
    {
        return Ok((name, Some(entry)));
    }
    match servers.iter().find(|(name, _)| name == wanted) {
        Some((name, entry)) => Err(PlanError::NameTaken {
            name: name.clone(),
            other: describe_entry(entry),
        }),
        None => Ok((wanted, None)),
    }
}

fn list_own_entries<'a>(
    servers: &'a [(String, Value)],
    request: &Request,
) -> Vec<&'a (String, Value)> {
    let wanted = request.name.as_deref().unwrap_or(DEFAULT_NAME);
    let url = match &request.target {
        Target::Service { url, .. } => Some(url.as_str()),
        Target::Command { .. } => None,
    };
    let ours = servers
        .iter()
        .filter(|(name, entry)| is_ours(name, entry, wanted, url));
    ours.collect()
}

fn plan_removal(
    editor: &Editor,
    text: &str,
    servers: &[(String, Value)],
    request: &Request,
) -> Result<Planned, PlanError> {
    let ours = list_own_entries(servers, request);
    let names: Vec<&str> = ours
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| request.name.as_deref().is_none_or(|wanted| wanted == *name))
        .collect();
    if names.is_empty() {
        return Ok(unchanged(text, Outcome::NotConnected));
    }
    let keeps_container = editor.dialect.is_file_of_servers();
    let mut after = match editor.dialect {
        Dialect::Codex => toml::remove_servers(text, &names)?,
        _ => json::remove_servers(text, editor.container(), &names, keeps_container)?,
    };
    if editor.dialect == Dialect::VsCode {
        after = json::remove_token_input(&after)?;
    }
    Ok(Planned {
        text: after,
        outcome: Outcome::Removed,
    })
}

/// The settings of a client, in its format.
struct Editor {
    dialect: Dialect,
}

impl Editor {
    fn container(&self) -> &'static str {
        self.dialect.container()
    }

    fn list_servers(&self, text: &str) -> Result<Vec<(String, Value)>, PlanError> {
        match self.dialect {
            Dialect::Codex => toml::list_servers(text),
            _ => json::list_servers(text, self.container()),
        }
    }
}

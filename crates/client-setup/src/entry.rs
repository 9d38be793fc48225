//! The entry of a server in the words of each client, and the recognition of our own entries.

use serde_json::Value;

use crate::client::Dialect;

/// The name of the server if the user gives none.
pub const DEFAULT_NAME: &str = "memory";
/// The variable from which clients read the token. The token itself is never written to a file.
pub const TOKEN_VARIABLE: &str = "MEMORY_TOKEN";
/// A part of every command that starts this program, in any package.
const PROGRAM: &str = "cognitive-memory-mcp";
/// The argument for MCP on standard input and output.
const STDIO: &str = "stdio";
/// The port and path of the service by default.
const DEFAULT_AUTHORITY_END: &str = ":8765";
const PATH: &str = "/mcp";
/// The keys of an address in the settings of the clients.
const URL_KEYS: [&str; 4] = ["url", "httpUrl", "serverUrl", "uri"];
/// The ID of the input with the token in VS Code.
pub(crate) const TOKEN_INPUT: &str = "memory-token";

/// The program or address that a client connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A command that the client starts.
    Command {
        /// Absolute path of the program.
        program: String,
    },
    /// A running service.
    Service {
        url: String,
        /// Whether the service requires a token.
        needs_token: bool,
        /// Absolute path of the program, for clients that reach such a service only through a command.
        program: String,
    },
}

/// An entry as a client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    Command { program: String, args: Vec<String> },
    Url(String),
}

/// A value to be written, at one or two keys below the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) path: Vec<&'static str>,
    pub(crate) value: FieldValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldValue {
    Text(String),
    List(Vec<String>),
}

impl FieldValue {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::List(list) => list.clone().into(),
        }
    }
}

fn text_field(path: &[&'static str], value: impl Into<String>) -> Field {
    Field {
        path: path.to_vec(),
        value: FieldValue::Text(value.into()),
    }
}

fn list_field(key: &'static str, values: &[&str]) -> Field {
    Field {
        path: vec![key],
        value: FieldValue::List(values.iter().map(|&value| value.to_owned()).collect()),
    }
}

/// Returns how the client refers to the token; `None` if it knows no variables.
const fn token_reference(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::ClaudeCode => Some("Bearer ${MEMORY_TOKEN}"),
        Dialect::Cursor | Dialect::Windsurf => Some("Bearer ${env:MEMORY_TOKEN}"),
        Dialect::VsCode => Some("Bearer ${input:memory-token}"),
        Dialect::Gemini => Some("Bearer $MEMORY_TOKEN"),
        Dialect::OpenCode => Some("Bearer {env:MEMORY_TOKEN}"),
        Dialect::Codex => Some(TOKEN_VARIABLE),
        Dialect::ClaudeDesktop | Dialect::Zed | Dialect::Cline => None,
    }
}

/// Returns whether the client reaches the service through a command: it speaks no HTTP, or cannot send a token without
/// storing it in the file.
pub(crate) fn needs_command(dialect: Dialect, target: &Target) -> bool {
    match target {
        Target::Command { .. } => true,
        Target::Service { needs_token, .. } => {
            dialect == Dialect::ClaudeDesktop
                || (*needs_token && token_reference(dialect).is_none())
        }
    }
}

/// Returns whether the entry refers to the token by a variable.
pub(crate) fn refers_to_token(dialect: Dialect, target: &Target) -> bool {
    let needs_token = matches!(
        target,
        Target::Service {
            needs_token: true,
            ..
        }
    );
    needs_token && !needs_command(dialect, target)
}

/// Returns the fields of the entry. Fields that are right in the existing entry keep what the user added: further
/// arguments, or a header of the user's own.
pub(crate) fn entry_fields(
    dialect: Dialect,
    target: &Target,
    existing: Option<&Value>,
) -> Vec<Field> {
    match target {
        Target::Command { program } => command_fields(dialect, program, existing),
        Target::Service { url, program, .. } if needs_command(dialect, target) => {
            let mut fields = command_fields(dialect, program, existing);
            fields.push(text_field(&["env", "MEMORY_URL"], url));
            fields
        }
        Target::Service {
            url, needs_token, ..
        } => service_fields(dialect, url, *needs_token, existing),
    }
}

fn command_fields(dialect: Dialect, program: &str, existing: Option<&Value>) -> Vec<Field> {
    let mut fields = Vec::new();
    match dialect {
        Dialect::ClaudeCode | Dialect::VsCode => fields.push(text_field(&["type"], STDIO)),
        Dialect::OpenCode => fields.push(text_field(&["type"], "local")),
        _ => {}
    }
    let kept = existing
        .and_then(connection_of)
        .and_then(|connection| match connection {
            Connection::Command { args, .. } => Some(args),
            Connection::Url(_) => None,
        });
    let kept = kept.filter(|args| args.first().is_some_and(|first| first == STDIO));
    let args = kept.unwrap_or_else(|| vec![STDIO.to_owned()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if dialect == Dialect::OpenCode {
        let words: Vec<&str> = std::iter::once(program).chain(args).collect();
        fields.push(list_field("command", &words));
    } else {
        fields.push(text_field(&["command"], program));
        fields.push(list_field("args", &args));
    }
    fields
}

fn service_fields(
    dialect: Dialect,
    url: &str,
    needs_token: bool,
    existing: Option<&Value>,
) -> Vec<Field> {
    let mut fields = Vec::new();
    let (kind, key) = match dialect {
        Dialect::ClaudeCode | Dialect::VsCode => (Some("http"), "url"),
        Dialect::OpenCode => (Some("remote"), "url"),
        Dialect::Cline => (Some("streamableHttp"), "url"),
        Dialect::Gemini => (None, "httpUrl"),
        Dialect::Windsurf => (None, "serverUrl"),
        Dialect::Cursor | Dialect::Codex | Dialect::Zed | Dialect::ClaudeDesktop => (None, "url"),
    };
    if let Some(kind) = kind {
        fields.push(text_field(&["type"], kind));
    }
    fields.push(text_field(&[key], url));
    let Some(reference) = token_reference(dialect).filter(|_| needs_token) else {
        return fields;
    };
    if existing.is_some_and(has_authorization) {
        return fields;
    }
    if dialect == Dialect::Codex {
        fields.push(text_field(&["bearer_token_env_var"], reference));
    } else {
        fields.push(text_field(&["headers", "Authorization"], reference));
    }
    fields
}

/// Returns whether the user has already decided how the client authenticates.
fn has_authorization(entry: &Value) -> bool {
    let has_header = |headers: &Value| {
        let names = headers.as_object().into_iter().flat_map(|map| map.keys());
        names
            .into_iter()
            .any(|name| name.eq_ignore_ascii_case("authorization"))
    };
    entry.get("bearer_token_env_var").is_some()
        || ["headers", "http_headers", "env_http_headers"]
            .iter()
            .any(|key| entry.get(key).is_some_and(has_header))
}

/// Returns what an entry connects to; `None` if it has neither a command nor an address.
pub(crate) fn connection_of(entry: &Value) -> Option<Connection> {
    let strings = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    match &entry["command"] {
        Value::String(program) => {
            return Some(Connection::Command {
                program: program.clone(),
                args: strings(&entry["args"]),
            });
        }
        list @ Value::Array(_) => {
            let mut words = strings(list).into_iter();
            return Some(Connection::Command {
                program: words.next()?,
                args: words.collect(),
            });
        }
        // The former format of Zed.
        nested @ Value::Object(_) => {
            return Some(Connection::Command {
                program: nested["path"].as_str()?.to_owned(),
                args: strings(&nested["args"]),
            });
        }
        _ => {}
    }
    let url = URL_KEYS.iter().find_map(|key| entry[*key].as_str())?;
    Some(Connection::Url(url.to_owned()))
}

/// Returns whether an entry belongs to this program: its command names the program, or its address is the requested one
/// or that of a service with the default port. An entry with the requested name may use any port of this machine.
pub(crate) fn is_ours(name: &str, entry: &Value, wanted_name: &str, url: Option<&str>) -> bool {
    match connection_of(entry) {
        Some(Connection::Command { program, args }) => {
            program.contains(PROGRAM) || args.iter().any(|arg| arg.contains(PROGRAM))
        }
        Some(Connection::Url(found)) => {
            url == Some(found.as_str()) || is_default_service(&found, name == wanted_name)
        }
        None => false,
    }
}

fn is_default_service(url: &str, any_port: bool) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let Some((authority, path)) = rest.split_once('/') else {
        return false;
    };
    let host = authority
        .rsplit_once(':')
        .filter(|(_, port)| port.chars().all(|c| c.is_ascii_digit()))
        .map_or(authority, |(host, _)| host);
    let is_local = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
    let is_path = path.trim_end_matches('/') == PATH.trim_start_matches('/');
    is_path && (authority.ends_with(DEFAULT_AUTHORITY_END) || (any_port && is_local))
}

/// Names the server of an entry for an error, without values that may be secrets.
pub(crate) fn describe_entry(entry: &Value) -> String {
    match connection_of(entry) {
        Some(Connection::Command { program, args }) => {
            let words = std::iter::once(program).chain(args.into_iter().take(2));
            words.collect::<Vec<_>>().join(" ")
        }
        Some(Connection::Url(url)) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        None => "an unknown server".to_owned(),
    }
}

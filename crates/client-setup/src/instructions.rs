//! Steps for clients whose settings only a person can change.

use crate::client::Client;
use crate::entry::{DEFAULT_NAME, TOKEN_VARIABLE, Target, needs_command, refers_to_token};

/// Returns the steps to connect a client by hand; `None` for a client whose file can be edited.
#[must_use]
pub fn describe_setup(client: &Client, name: Option<&str>, target: &Target) -> Option<String> {
    if client.dialect().is_some() {
        return None;
    }
    let name = name.unwrap_or(DEFAULT_NAME);
    Some(match client.name {
        "goose" => describe_goose(name, target),
        "lm-studio" => describe_lm_studio(name, target),
        _ => describe_open_webui(target),
    })
}

/// Returns the YAML of an extension. No maintained editor keeps the comments of a YAML file.
fn describe_goose(name: &str, target: &Target) -> String {
    let connection = match target {
        Target::Command { program } => {
            format!("    type: stdio\n    cmd: {program:?}\n    args: [stdio]\n")
        }
        Target::Service {
            url, needs_token, ..
        } => {
            let headers = if *needs_token {
                format!(
                    "    headers: {{Authorization: \"Bearer ${{{TOKEN_VARIABLE}}}\"}}\n    env_keys: [{TOKEN_VARIABLE}]\n"
                )
            } else {
                String::new()
            };
            format!("    type: streamable_http\n    uri: {url:?}\n{headers}")
        }
    };
    format!(
        "Add this below `extensions:` in ~/.config/goose/config.yaml, or run `goose configure` and choose Add Extension:\n\
         \n  {name}:\n    enabled: true\n    name: {name}\n    description: Memory\n    timeout: 300\n{connection}"
    )
}

fn describe_lm_studio(name: &str, target: &Target) -> String {
    let entry = match target {
        Target::Command { program } => {
            format!("{{\"command\": {program:?}, \"args\": [\"stdio\"]}}")
        }
        // LM Studio knows no variables, so a token would be stored in the file.
        Target::Service {
            url,
            needs_token: true,
            program,
        } => format!(
            "{{\"command\": {program:?}, \"args\": [\"stdio\"], \"env\": {{\"MEMORY_URL\": {url:?}}}}}"
        ),
        Target::Service { url, .. } => format!("{{\"url\": {url:?}}}"),
    };
    format!(
        "Open the tab Program, choose Install and Edit mcp.json, and add to `mcpServers`:\n\n  {:?}: {entry}\n",
        name
    )
}

fn describe_open_webui(target: &Target) -> String {
    let url = match target {
        Target::Command { .. } => "http://127.0.0.1:8765/mcp",
        Target::Service { url, .. } => url,
    };
    format!(
        "Open the admin settings, External Tools, Add Connection, and choose the type MCP (Streamable HTTP). Enter\n\n  \
         URL: {url}\n  Auth: Bearer with a token of the service, or None if the service requires no token\n\n\
         Open WebUI starts no commands, so a service must run (`cognitive-memory-mcp serve`). From a container, use the \
         address of the host, and add its name to MEMORY_ALLOWED_HOSTS.\n"
    )
}

/// Returns where the user stores the token of the service; `None` if the connection needs none.
#[must_use]
pub fn token_advice(client: &Client, target: &Target) -> Option<String> {
    let dialect = client.dialect()?;
    let Target::Service {
        needs_token: true, ..
    } = target
    else {
        return None;
    };
    Some(if client.name == "vscode" {
        "VS Code asks for the token once and stores it encrypted.".to_owned()
    } else if refers_to_token(dialect, target) {
        format!(
            "{} reads the token from the environment: set {TOKEN_VARIABLE} where it is started.",
            client.title
        )
    } else {
        debug_assert!(needs_command(dialect, target));
        format!(
            "Store the token for the command: set MEMORY_TOKEN_FILE to the path of a file with the token, in \
             ~/.config/cognitive-memory-mcp/.env.development (or .env.production). {} starts the command, which sends it.",
            client.title
        )
    })
}

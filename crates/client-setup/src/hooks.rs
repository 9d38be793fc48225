//! The hooks of a client that run the command `hook`.

use jsonc_parser::cst::{CstInputValue, CstNode, CstObject};

use crate::change::{Action, Outcome, PlanError, Planned, split_byte_order_mark};
use crate::client::{Client, HookFile};
use crate::entry::Target;
use crate::json::{find_array, find_object, parse_text, remove_if_empty, require_object};

/// The object with all hooks.
const HOOKS: &str = "hooks";
/// A part of every command that starts this program.
const PROGRAM: &str = "cognitive-memory-mcp";

/// Plans to add, update or remove the hooks in the text of a client's file. `None` is a file that does not exist.
///
/// # Errors
/// Fails if the text is malformed.
pub fn plan_hooks(
    client: &Client,
    text: Option<&str>,
    action: Action,
    target: &Target,
) -> Result<Planned, PlanError> {
    let before = text.unwrap_or_default();
    let Some(file) = &client.hooks else {
        return Ok(Planned {
            text: before.to_owned(),
            outcome: Outcome::NotConnected,
        });
    };
    let (mark, body) = split_byte_order_mark(before);
    let (after, had_hooks) = match action {
        Action::Connect => set_hooks(body, file, target)?,
        Action::Remove => remove_hooks(body, file)?,
    };
    let is_changed = after != body;
    let outcome = match (action, had_hooks, is_changed) {
        (Action::Connect, false, _) => Outcome::Added,
        (Action::Connect, true, true) => Outcome::Updated,
        (Action::Connect, true, false) => Outcome::AlreadyConnected,
        (Action::Remove, true, _) => Outcome::Removed,
        (Action::Remove, false, _) => Outcome::NotConnected,
    };
    Ok(Planned {
        text: format!("{mark}{after}"),
        outcome,
    })
}

/// Adds or updates the hook of each event. Returns the text, and whether there was a hook before.
fn set_hooks(text: &str, file: &HookFile, target: &Target) -> Result<(String, bool), PlanError> {
    let (root, object) = parse_text(text)?;
    let hooks = require_object(&object, HOOKS)?;
    let mut had_hooks = false;
    for (event, word) in file.events {
        let command = hook_command(target, word);
        let groups = match find_array(&hooks, event)? {
            Some(groups) => groups,
            None => hooks
                .append(event, CstInputValue::Array(Vec::new()))
                .array_value_or_set(),
        };
        let own: Vec<CstObject> = groups.elements().iter().flat_map(list_own_hooks).collect();
        if own.is_empty() {
            groups.ensure_multiline();
            groups.append(new_group(&command, file.timeout));
            continue;
        }
        had_hooks = true;
        for hook in own {
            update_command(&hook, &command);
        }
    }
    let after = if had_hooks || !text.trim().is_empty() {
        root.to_string()
    } else {
        root.to_string().trim_end().to_owned() + "\n"
    };
    Ok((after, had_hooks))
}

fn new_group(command: &str, timeout: &str) -> CstInputValue {
    let text = |text: &str| CstInputValue::String(text.to_owned());
    let hook = CstInputValue::Object(vec![
        ("type".to_owned(), text("command")),
        ("command".to_owned(), text(command)),
        (
            "timeout".to_owned(),
            CstInputValue::Number(timeout.to_owned()),
        ),
    ]);
    // Without a matcher, the hook covers every kind of event: startup, resume, clear, compact.
    CstInputValue::Object(vec![(HOOKS.to_owned(), CstInputValue::Array(vec![hook]))])
}

fn update_command(hook: &CstObject, command: &str) {
    let Some(property) = hook.get("command") else {
        return;
    };
    let current = property.value().and_then(|value| value.to_serde_value());
    if current.as_ref().and_then(|value| value.as_str()) != Some(command) {
        property.set_value(CstInputValue::String(command.to_owned()));
    }
}

/// Returns the hooks of this program in a group of an event.
fn list_own_hooks(group: &CstNode) -> Vec<CstObject> {
    let hooks = group.as_object().and_then(|group| group.array_value(HOOKS));
    let hooks = hooks.map(|hooks| hooks.elements()).unwrap_or_default();
    let objects = hooks.into_iter().filter_map(|hook| hook.as_object());
    objects.filter(is_own_hook).collect()
}

fn is_own_hook(hook: &CstObject) -> bool {
    let command = hook
        .get("command")
        .and_then(|property| property.value())
        .and_then(|value| value.to_serde_value());
    let command = command.as_ref().and_then(|value| value.as_str());
    command.is_some_and(|command| command.contains(PROGRAM) && command.contains(" hook "))
}

/// Removes the hooks of this program, and what becomes empty. Returns the text, and whether there was a hook before.
fn remove_hooks(text: &str, file: &HookFile) -> Result<(String, bool), PlanError> {
    let (root, object) = parse_text(text)?;
    let Some(hooks) = find_object(&object, HOOKS)? else {
        return Ok((text.to_owned(), false));
    };
    let mut had_hooks = false;
    for (event, _) in file.events {
        let Some(groups) = find_array(&hooks, event)? else {
            continue;
        };
        let mut has_removed = false;
        for group in groups.elements() {
            let own = list_own_hooks(&group);
            let is_own_group = !own.is_empty();
            for hook in own {
                hook.remove();
            }
            has_removed |= is_own_group;
            let rest = group.as_object().and_then(|group| group.array_value(HOOKS));
            if is_own_group && rest.is_some_and(|rest| rest.elements().is_empty()) {
                group.remove();
            }
        }
        had_hooks |= has_removed;
        if has_removed {
            remove_if_empty(&hooks, event)?;
        }
    }
    if !had_hooks {
        return Ok((text.to_owned(), false));
    }
    remove_if_empty(&object, HOOKS)?;
    Ok((root.to_string(), true))
}

/// Returns the command of a hook, for a shell.
fn hook_command(target: &Target, event: &str) -> String {
    match target {
        Target::Command { program } => format!("{} hook {event}", quote_word(program)),
        // Commands reach only services without TLS; otherwise they find the service by their own settings.
        Target::Service { program, url, .. } if url.starts_with("http://") => {
            let (program, url) = (quote_word(program), quote_word(url));
            format!("{program} hook {event} --url {url}")
        }
        Target::Service { program, .. } => format!("{} hook {event}", quote_word(program)),
    }
}

/// Quotes a word for a shell, if it needs quotes.
fn quote_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

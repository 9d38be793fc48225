//! The messages of a body: validated, repaired if the intention is clear, and reduced to a size that the protocol
//! library can parse cheaply.
//!
//! The library tries one form after the other for every message, each with a copy of the whole, which costs up to 250
//! bytes of memory for one byte of the body. Large arguments therefore go around it, in [`SideArguments`].

use axum::http::StatusCode;
use rmcp::model::{ClientCapabilities, Implementation, InitializeRequestParams};
use serde_json::{Map, Value, json};

use super::body_scan::BodyScan;
use super::rpc_error::{PARSE_ERROR, RpcError};
use crate::domain::count::{count_of, verb_for};
use crate::domain::lenient_json;
use crate::mcp::{CallNotes, SideArguments};

/// Maximum number of messages in a batch.
pub(super) const MAX_BATCH: usize = 50;
/// Arguments of a body up to this size and number of values stay in the message.
const SMALL_BODY_BYTES: usize = 16 * 1024;
const SMALL_BODY_VALUES: usize = 1_000;
/// Maximum size of a message without its arguments.
const MAX_ENVELOPE_BYTES: usize = 64 * 1024;
/// The first revision without a handshake.
const STATELESS: &str = "2026-07-28";
/// Names that other interfaces, and the models that were trained on them, give to `arguments`.
const OTHER_NAMES_OF_ARGUMENTS: [&str; 8] = [
    "args",
    "input",
    "parameters",
    "params",
    "kwargs",
    "tool_input",
    "toolInput",
    "inputs",
];
/// The fields other than `arguments` in the params of a call.
const PROTOCOL_PARAMS: [&str; 7] = [
    "name",
    "arguments",
    "_meta",
    "task",
    "title",
    "inputResponses",
    "requestState",
];
/// Maximum number of names in a note.
const MAX_LISTED_NAMES: usize = 10;
/// The revision of clients that do not name one.
const OLDEST_WITHOUT_HEADER: &str = "2025-03-26";

/// A complete body.
#[derive(Debug)]
pub(super) enum Messages {
    Single(Result<Message, RpcError>),
    /// Each message, or the error that answers it.
    Batch(Vec<Result<Message, RpcError>>),
}

/// One message, ready for the protocol library.
#[derive(Debug)]
pub(super) struct Message {
    /// None for notifications and responses.
    pub(super) id: Option<Value>,
    pub(super) method: Option<String>,
    /// The name of the tool that is called.
    pub(super) tool: Option<String>,
    pub(super) body: Vec<u8>,
    pub(super) arguments: Arguments,
    pub(super) notes: CallNotes,
}

/// The arguments of a tool or a prompt.
#[derive(Debug)]
pub(super) enum Arguments {
    /// The arguments stay in the body.
    Inside(Map<String, Value>),
    Beside(SideArguments),
}

impl Arguments {
    /// Passes the arguments to `look`.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Map<String, Value>) -> T) -> T {
        match self {
            Self::Inside(arguments) => look(arguments),
            Self::Beside(arguments) => arguments.with(look),
        }
    }
}

/// Parses a scanned body. `version` is the header MCP-Protocol-Version.
pub(super) fn parse(mut body: Vec<u8>, scan: &BodyScan, version: Option<&str>) -> Messages {
    let mut notes = Vec::new();
    if scan.has_lone_surrogate() {
        let count = super::body_scan::replace_lone_surrogates(&mut body);
        notes.push(format!(
            "{} (a text cut inside an emoji) {} replaced with U+FFFD",
            count_of(count as u64, "incomplete UTF-16 surrogate pair"),
            verb_for(count as u64, "was", "were")
        ));
    }
    let is_small = body.len() <= SMALL_BODY_BYTES && scan.values() <= SMALL_BODY_VALUES;
    // RFC 8259 lets parsers ignore a byte order mark.
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
    let parsed: Result<Value, _> = serde_json::from_slice(text);
    let value = match parsed {
        Ok(value) => value,
        Err(error) => {
            let message = format!("the body is not valid JSON: {error}");
            let error = RpcError::new(StatusCode::BAD_REQUEST, PARSE_ERROR, message);
            return Messages::Single(Err(error.with_id(scan.id())));
        }
    };
    drop(body);
    let context = Context {
        is_small,
        version,
        notes,
    };
    match value {
        Value::Array(messages) => batch(messages, &context),
        message => Messages::Single(context.read(message)),
    }
}

fn batch(messages: Vec<Value>, context: &Context<'_>) -> Messages {
    let refuse = |message: String| Messages::Single(Err(RpcError::invalid_request(message)));
    if let Some(version) = context
        .version
        .filter(|version| *version > OLDEST_WITHOUT_HEADER)
    {
        return refuse(format!(
            "the body is an array, but revision {version} of MCP has no batches: send one message per request"
        ));
    }
    if messages.is_empty() {
        return refuse("the batch is empty: send at least one message".to_owned());
    }
    if messages.len() > MAX_BATCH {
        return refuse(format!(
            "the batch has {} messages: send at most {MAX_BATCH} per request",
            messages.len()
        ));
    }
    let read = |message: Value| {
        if message["method"] == "initialize" {
            let error = RpcError::invalid_request(
                "initialize must not be part of a batch: send it by itself",
            );
            return Err(error.with_id(id_of(&message)));
        }
        context.read(message)
    };
    Messages::Batch(messages.into_iter().map(read).collect())
}

/// Returns the ID of a message if it has a valid one.
fn id_of(message: &Value) -> Option<Value> {
    message
        .get("id")
        .filter(|id| id.is_string() || id.is_number())
        .cloned()
}

/// The limits and headers for all messages of a body.
struct Context<'a> {
    is_small: bool,
    version: Option<&'a str>,
    notes: Vec<String>,
}

impl Context<'_> {
    fn read(&self, message: Value) -> Result<Message, RpcError> {
        let id = id_of(&message);
        self.try_read(message).map_err(|error| error.with_id(id))
    }

    fn try_read(&self, message: Value) -> Result<Message, RpcError> {
        let Value::Object(mut message) = message else {
            return Err(RpcError::invalid_request(
                "the body is JSON, but not a JSON-RPC message: expected an object such as \
                 {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/list\"}",
            ));
        };
        if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(RpcError::invalid_request(
                "the message is not JSON-RPC 2.0: `jsonrpc` must be \"2.0\"",
            ));
        }
        let is_response = message.contains_key("result") || message.contains_key("error");
        let method = match message.get("method") {
            Some(Value::String(method)) if !is_response => Some(method.clone()),
            Some(Value::String(_)) => {
                return Err(RpcError::invalid_request(
                    "a message with `method` is a request and must not have `result` or `error`",
                ));
            }
            None if is_response => {
                check_response(&message)?;
                None
            }
            _ => {
                return Err(RpcError::invalid_request(
                    "the message has no `method`: expected a string",
                ));
            }
        };
        let id = check_id(&mut message, method.as_deref())?;
        let mut notes = self.notes.clone();
        let (mut tool, mut arguments) = (None, Map::new());
        if let Some(method) = &method {
            repair_params(&mut message)?;
            match method.as_str() {
                // Revision 2026-07-28 has no handshake; the protocol library answers it there.
                "initialize" if self.version.is_none_or(|version| version < STATELESS) => {
                    repair_initialize(&mut message, self.version)?;
                }
                "tools/call" | "prompts/get" => {
                    arguments = take_arguments(&mut message, &mut notes)?;
                    let name = || {
                        message
                            .get("params")?
                            .get("name")?
                            .as_str()
                            .map(str::to_owned)
                    };
                    tool = name().filter(|_| method == "tools/call");
                }
                _ => {}
            }
        }
        let arguments = if self.is_small {
            if !arguments.is_empty()
                && let Some(params) = message.get_mut("params").and_then(Value::as_object_mut)
            {
                params.insert("arguments".to_owned(), Value::Object(arguments.clone()));
            }
            Arguments::Inside(arguments)
        } else {
            Arguments::Beside(SideArguments::new(arguments))
        };
        let body = Value::Object(message).to_string().into_bytes();
        if !self.is_small && body.len() > MAX_ENVELOPE_BYTES {
            return Err(RpcError::invalid_request(format!(
                "the message has {} bytes without its `params.arguments`: at most {MAX_ENVELOPE_BYTES} are accepted there",
                body.len()
            )));
        }
        Ok(Message {
            id,
            method,
            tool,
            body,
            arguments,
            notes: CallNotes(notes.into()),
        })
    }
}

/// Checks the answer of a client to a question of the service, which is asked in sessions only.
fn check_response(message: &Map<String, Value>) -> Result<(), RpcError> {
    let error = message.get("error");
    if message.contains_key("result") == error.is_some() || error.is_some_and(|it| !it.is_object())
    {
        return Err(RpcError::invalid_request(
            "a response has either `result` or `error`, and `error` is an object",
        ));
    }
    Ok(())
}

/// Returns the ID of a request; `None` for notifications and responses.
fn check_id(
    message: &mut Map<String, Value>,
    method: Option<&str>,
) -> Result<Option<Value>, RpcError> {
    let Some(method) = method else {
        return Ok(None);
    };
    match message.get("id") {
        None => Ok(None),
        Some(id) if id.is_string() || id.is_i64() => Ok(Some(id.clone())),
        // Some libraries write an ID into every message, even into notifications.
        Some(Value::Null) if method.starts_with("notifications/") => {
            message.remove("id");
            Ok(None)
        }
        Some(_) => Err(RpcError::invalid_request(
            "`id` must be a string or an integer; leave it out only for notifications",
        )),
    }
}

/// Returns whether params are not set. Languages whose empty map is an empty list write `[]`.
fn repair_params(message: &mut Map<String, Value>) -> Result<(), RpcError> {
    let is_unset = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if message.get("params").is_some_and(is_unset) {
        message.remove("params");
    }
    match message.get_mut("params") {
        None => {}
        Some(Value::Object(params)) if params.get("_meta").is_some_and(is_unset) => {
            params.remove("_meta");
        }
        Some(Value::Object(_)) => {}
        Some(other) => {
            let sentence = format!(
                "params: expected an object such as {{}}, got {}",
                shorten(other)
            );
            return Err(RpcError::invalid_params(sentence));
        }
    }
    Ok(())
}

/// Repairs irrelevant params: the capabilities of the client are not used, and its name only for people.
fn repair_initialize(
    message: &mut Map<String, Value>,
    version: Option<&str>,
) -> Result<(), RpcError> {
    let params = message.entry("params").or_insert_with(|| json!({}));
    let Some(params) = params.as_object_mut() else {
        return Err(RpcError::invalid_params(
            "params: expected an object with protocolVersion, capabilities and clientInfo",
        ));
    };
    match params.get("protocolVersion") {
        Some(Value::String(_)) => {}
        None | Some(Value::Null) => {
            params.insert(
                "protocolVersion".to_owned(),
                version.unwrap_or(OLDEST_WITHOUT_HEADER).into(),
            );
        }
        Some(other) => {
            let message = format!(
                "params.protocolVersion: expected a string such as \"2025-11-25\", got {}",
                shorten(other)
            );
            return Err(RpcError::invalid_params(message));
        }
    }
    let capabilities = params.get("capabilities").cloned().unwrap_or_default();
    if serde_json::from_value::<ClientCapabilities>(capabilities).is_err() {
        params.insert("capabilities".to_owned(), json!({}));
    }
    let client = params.get("clientInfo").cloned().unwrap_or_default();
    if serde_json::from_value::<Implementation>(client.clone()).is_err() {
        let text = |field: &str| match &client[field] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => "unknown".to_owned(),
        };
        params.insert(
            "clientInfo".to_owned(),
            json!({ "name": text("name"), "version": text("version") }),
        );
    }
    if params.get("_meta").is_some_and(|meta| !meta.is_object()) {
        params.remove("_meta");
    }
    match serde_json::from_value::<InitializeRequestParams>(Value::Object(params.clone())) {
        Ok(_) => Ok(()),
        Err(error) => Err(RpcError::invalid_params(format!("params: {error}"))),
    }
}

/// Takes the arguments of a call out of its params: an object, JSON text of one, or nothing.
fn take_arguments(
    message: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Map<String, Value>, RpcError> {
    match message.get_mut("params").and_then(Value::as_object_mut) {
        Some(params) => take_arguments_of(params, notes),
        None => Ok(Map::new()),
    }
}

fn take_arguments_of(
    params: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Map<String, Value>, RpcError> {
    let Some(arguments) = params
        .remove("arguments")
        .filter(|arguments| !arguments.is_null())
    else {
        return take_misplaced_arguments(params, notes);
    };
    match arguments {
        Value::Object(arguments) => return Ok(arguments),
        Value::Array(list) if list.is_empty() => return Ok(Map::new()),
        Value::String(text) if text.trim().is_empty() => return Ok(Map::new()),
        Value::String(text) => {
            if let Some(arguments) = parse_argument_text(&text, notes) {
                return Ok(arguments);
            }
        }
        _ => {}
    }
    Err(RpcError::invalid_params(
        "params.arguments: expected an object such as {\"query\": \"...\"}",
    ))
}

/// Takes arguments that clients with hand-built requests send under the name of another interface or next to `name`.
/// Ignoring those would answer another question than the caller's.
fn take_misplaced_arguments(
    params: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Map<String, Value>, RpcError> {
    for other in OTHER_NAMES_OF_ARGUMENTS {
        if !params.get(other).is_some_and(is_object_or_text_of_one) {
            continue;
        }
        let Some(value) = params.remove(other) else {
            continue;
        };
        params.insert("arguments".to_owned(), value);
        notes.push(format!("params.{other}: read as arguments"));
        return take_arguments_of(params, notes);
    }
    let names: Vec<String> = params
        .keys()
        .filter(|name| !PROTOCOL_PARAMS.contains(&name.as_str()))
        .cloned()
        .collect();
    if !names.is_empty() {
        notes.push(format!(
            "params: read as arguments: {}; send them inside of arguments",
            list_names(&names)
        ));
    }
    Ok(names
        .into_iter()
        .filter_map(|name| params.remove_entry(&name))
        .collect())
}

fn is_object_or_text_of_one(value: &Value) -> bool {
    value.is_object()
        || value
            .as_str()
            .is_some_and(|text| text.trim_start().starts_with('{'))
}

fn list_names(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MAX_LISTED_NAMES)
        .map(|name| name.chars().take(60).collect())
        .collect();
    match names.len().saturating_sub(MAX_LISTED_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Parses arguments in JSON text, which has the limits of a body.
fn parse_argument_text(text: &str, notes: &mut Vec<String>) -> Option<Map<String, Value>> {
    let mut scan = BodyScan::default();
    scan.push(text.as_bytes());
    if scan.excess().is_some() {
        return None;
    }
    let (arguments, repairs) = match serde_json::from_str(text) {
        Ok(arguments) => (arguments, Vec::new()),
        Err(_) => {
            let (repaired, repairs) = lenient_json::mend(text);
            (serde_json::from_str(&repaired).ok()?, repairs)
        }
    };
    notes.push("arguments: parsed from JSON text; send an object".to_owned());
    notes.extend(repairs.iter().map(|repair| format!("arguments: {repair}")));
    Some(arguments)
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        text
    } else {
        text.chars().take(60).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, version: Option<&str>) -> Messages {
        let mut scan = BodyScan::default();
        scan.push(body.as_bytes());
        parse(body.as_bytes().to_vec(), &scan, version)
    }

    fn single(body: &str) -> Result<Message, RpcError> {
        match read(body, None) {
            Messages::Single(message) => message,
            Messages::Batch(_) => panic!("a batch: {body}"),
        }
    }

    fn sent(body: &str) -> Value {
        serde_json::from_slice(
            &single(body)
                .unwrap_or_else(|error| panic!("{body}: {error:?}"))
                .body,
        )
        .unwrap()
    }

    #[test]
    fn initialize_is_accepted_as_clients_send_it() {
        let full = json!({ "protocolVersion": "2025-06-18", "capabilities": { "roots": {} },
                           "clientInfo": { "name": "x", "version": "1" } });
        for (field, value) in [
            ("capabilities", Some(Value::Null)),
            ("capabilities", None),
            ("capabilities", Some(json!([]))),
            (
                "capabilities",
                Some(json!({ "roots": [], "sampling": true })),
            ),
            ("clientInfo", Some(Value::Null)),
            ("clientInfo", None),
            ("clientInfo", Some(json!({ "name": "x" }))),
            ("clientInfo", Some(json!({ "name": null, "version": 2 }))),
            ("clientInfo", Some(json!("x"))),
            ("protocolVersion", None),
            ("protocolVersion", Some(Value::Null)),
            ("_meta", Some(Value::Null)),
            ("_meta", Some(json!(5))),
        ] {
            let mut params = full.clone();
            match &value {
                Some(value) => params[field] = value.clone(),
                None => drop(params.as_object_mut().unwrap().remove(field)),
            }
            let body =
                json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
                    .to_string();
            let sent = sent(&body);
            let params = sent["params"].clone();
            assert!(
                serde_json::from_value::<InitializeRequestParams>(params).is_ok(),
                "{field} {value:?}: {sent}"
            );
        }
        for params in [
            json!({ "protocolVersion": 7 }),
            json!("x"),
            json!(["2025-06-18"]),
        ] {
            let body =
                json!({ "jsonrpc": "2.0", "id": 4, "method": "initialize", "params": params })
                    .to_string();
            let error = single(&body).unwrap_err();
            assert_eq!(
                (error.code, error.id.clone()),
                (-32602, Some(json!(4))),
                "{body}"
            );
            assert!(error.message.contains("params"), "{error:?}");
        }
    }

    #[test]
    fn a_revision_without_a_handshake_gets_no_repairs() {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{}}}"#;
        let Messages::Single(Ok(message)) = read(body, Some(STATELESS)) else {
            panic!("not a message")
        };
        let sent: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(sent, serde_json::from_str::<Value>(body).unwrap());
    }

    #[test]
    fn arguments_are_an_object_or_stand_for_one() {
        for (arguments, expected) in [
            ("null", json!({})),
            ("[]", json!({})),
            ("\"\"", json!({})),
            (r#""{\"query\": \"x\"}""#, json!({ "query": "x" })),
            (r#"{"query": null}"#, json!({ "query": null })),
        ] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"recall","arguments":{arguments}}}}}"#
            );
            let message = single(&body).unwrap();
            assert_eq!(
                message.arguments.with(|given| Value::Object(given.clone())),
                expected,
                "{body}"
            );
        }
        for arguments in [
            r#""input":{"query":"x"}"#,
            r#""arguments":null,"args":{"query":"x"}"#,
            r#""parameters":"{\"query\":\"x\"}""#,
            r#""query":"x""#,
        ] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"recall","_meta":{{}},{arguments}}}}}"#
            );
            let message = single(&body).unwrap();
            assert_eq!(
                message.arguments.with(|given| Value::Object(given.clone())),
                json!({ "query": "x" }),
                "{body}"
            );
            assert_eq!(message.tool.as_deref(), Some("recall"));
            assert!(!message.notes.0.is_empty(), "{body}");
        }
        for arguments in ["5", "[1]", "\"words\"", "true"] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"name":"recall","arguments":{arguments}}}}}"#
            );
            let error = single(&body).unwrap_err();
            assert_eq!(
                (error.code, error.id.clone()),
                (-32602, Some(json!("a"))),
                "{body}"
            );
            assert!(error.message.contains("params.arguments"), "{error:?}");
        }
    }

    #[test]
    fn errors_repeat_the_id_that_could_be_read() {
        for (body, code, id) in [
            (r#"{"jsonrpc":"2.0","id":1"#, PARSE_ERROR, json!(1)),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"#,
                PARSE_ERROR,
                json!(1),
            ),
            (
                r#"{"jsonrpc":"2.0","id":"a","method":"x",}"#,
                PARSE_ERROR,
                json!("a"),
            ),
            (r#"{"jsonrpc":"1.0","id":2,"method":"x"}"#, -32600, json!(2)),
            (r#"{"id":2,"method":"x"}"#, -32600, json!(2)),
            (r#"{"jsonrpc":"2.0","id":3,"method":5}"#, -32600, json!(3)),
            (
                r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#,
                -32600,
                json!(1.5),
            ),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
                -32600,
                Value::Null,
            ),
            (
                r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
                -32600,
                Value::Null,
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"method":"ping","params":5}"#,
                -32602,
                json!(4),
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"method":"tools/list","params":"{}"}"#,
                -32602,
                json!(4),
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":[1]}"#,
                -32602,
                json!(4),
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"method":"x","result":{}}"#,
                -32600,
                json!(4),
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"result":{},"error":{}}"#,
                -32600,
                json!(4),
            ),
            (r#"{"jsonrpc":"2.0","id":4,"error":5}"#, -32600, json!(4)),
            ("[]", -32600, Value::Null),
            ("5", -32600, Value::Null),
        ] {
            let error = single(body).unwrap_err().to_json();
            assert_eq!(
                (&error["error"]["code"], &error["id"]),
                (&json!(code), &id),
                "{body}"
            );
        }
    }

    #[test]
    fn batches_are_bounded_and_belong_to_old_revisions() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let many = |count| format!("[{}]", vec![ping; count].join(","));
        for version in [None, Some("2024-11-05"), Some("2025-03-26")] {
            assert!(
                matches!(read(&many(MAX_BATCH), version), Messages::Batch(all) if all.len() == MAX_BATCH)
            );
        }
        for (body, version) in [
            (many(MAX_BATCH + 1), None),
            (many(1), Some("2025-06-18")),
            (many(1), Some("2026-07-28")),
            ("[]".to_owned(), None),
        ] {
            match read(&body, version) {
                Messages::Single(Err(error)) => assert_eq!(error.code, -32600),
                other => panic!("{other:?}"),
            }
        }
        let mixed =
            format!("[{ping},5,{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"initialize\"}}]");
        let Messages::Batch(messages) = read(&mixed, None) else {
            panic!("not a batch")
        };
        let codes: Vec<_> = messages
            .iter()
            .map(|message| message.as_ref().err().map(|error| error.code))
            .collect();
        assert_eq!(codes, [None, Some(-32600), Some(-32600)]);
    }

    #[test]
    fn large_arguments_go_around_the_protocol_library() {
        let content = "x".repeat(SMALL_BODY_BYTES);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                           "params": { "name": "remember", "arguments": { "items": [{ "content": content }] } } });
        let message = single(&body.to_string()).unwrap();
        assert!(message.body.len() < 200, "{}", message.body.len());
        assert!(matches!(message.arguments, Arguments::Beside(_)));
        assert_eq!(message.tool.as_deref(), Some("remember"));
        let elsewhere = json!({ "jsonrpc": "2.0", "id": 1, "method": "x", "params": { "a": vec!["y"; 40_000] } });
        let error = single(&elsewhere.to_string()).unwrap_err();
        assert!(error.message.contains("params.arguments"), "{error:?}");
    }
}

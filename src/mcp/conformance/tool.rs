//! The suite's tools.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    CustomRequest, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
    ProtocolVersion, ResourceContents, ServerRequest, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use super::input::{self, Progress};

/// A red dot.
pub(super) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// No sound.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
/// Between two notifications.
const PAUSE: Duration = Duration::from_millis(50);

const PLAIN: [&str; 13] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_error_handling",
    "test_tool_with_progress",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_missing_capability",
    "test_logging_tool",
    "test_reconnection",
];

pub(super) fn list() -> Vec<Tool> {
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    let plain = PLAIN.iter().chain(&input::TOOLS);
    let mut tools: Vec<Tool> = plain
        .map(|name| {
            Tool::new(
                *name,
                "A fixture of the conformance suite.",
                object(json!({ "type": "object" })),
            )
        })
        .collect();
    for (name, argument) in [("test_sampling", "prompt"), ("test_elicitation", "message")] {
        let schema = json!({
            "type": "object", "properties": { argument: { "type": "string" } }, "required": [argument],
        });
        tools.push(Tool::new(
            name,
            "A fixture of the conformance suite.",
            object(schema),
        ));
    }
    tools.push(Tool::new(
        "json_schema_2020_12_tool",
        "Tool with JSON Schema 2020-12 features",
        object(full_schema()),
    ));
    tools
}

/// Words of JSON Schema that must survive the way to the client.
fn full_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": { "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
        }},
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}

pub(super) async fn call(
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let arguments = request.arguments.clone().unwrap_or_default();
    let one = |content: ContentBlock| Ok(CallToolResult::success(vec![content]).into());
    let text = |text: String| Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into());
    match request.name.as_ref() {
        "test_simple_text" => text("This is a simple text response for testing.".to_owned()),
        "test_image_content" => one(ContentBlock::image(PNG, "image/png")),
        "test_audio_content" => one(ContentBlock::audio(WAV, "audio/wav")),
        "test_embedded_resource" => one(ContentBlock::resource(resource(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content.",
        ))),
        "test_multiple_content_types" => Ok(CallToolResult::success(vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PNG, "image/png"),
            ContentBlock::resource(resource(
                "test://mixed-content-resource",
                "application/json",
                r#"{"test":"data","value":123}"#,
            )),
        ])
        .into()),
        "test_tool_with_logging" | "test_logging_tool" => {
            // From 2026 on only who names a level wants messages.
            let legacy = context
                .protocol_version()
                .is_none_or(|version| version < ProtocolVersion::V_2026_07_28);
            let wanted = context.meta.log_level().is_some()
                || (legacy && request.name == "test_tool_with_logging");
            for message in [
                "Tool execution started",
                "Tool processing data",
                "Tool execution completed",
            ] {
                if wanted {
                    let param =
                        LoggingMessageNotificationParam::new(LoggingLevel::Info, message.into());
                    context
                        .peer
                        .notify_logging_message(param)
                        .await
                        .map_err(failed)?;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            text("Logged.".to_owned())
        }
        "test_error_handling" => {
            let message = "This tool intentionally returns an error for testing";
            Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into())
        }
        "test_tool_with_progress" => {
            for progress in [0.0, 50.0, 100.0] {
                if let Some(token) = context.meta.get_progress_token() {
                    let param = ProgressNotificationParam::new(token, progress).with_total(100.0);
                    context.peer.notify_progress(param).await.map_err(failed)?;
                }
                tokio::time::sleep(PAUSE).await;
            }
            text("Progressed.".to_owned())
        }
        "test_sampling" => {
            let prompt = &arguments["prompt"];
            let params = json!({
                "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }], "maxTokens": 100,
            });
            let answer = ask(context, "sampling/createMessage", params).await?;
            text(format!(
                "LLM response: {}",
                answer["content"]["text"].as_str().unwrap_or_default()
            ))
        }
        "test_elicitation" => {
            let schema = json!({
                "type": "object",
                "properties": {
                    "username": { "type": "string", "description": "User's response" },
                    "email": { "type": "string", "description": "User's email address" },
                },
                "required": ["username", "email"],
            });
            let params = json!({ "message": arguments["message"], "requestedSchema": schema });
            let answer = ask(context, "elicitation/create", params).await?;
            text(format!(
                "User response: action={}, content={}",
                answer["action"], answer["content"]
            ))
        }
        "test_elicitation_sep1034_defaults" => text(elicited(context, defaults()).await?),
        "test_elicitation_sep1330_enums" => text(elicited(context, enums()).await?),
        "test_missing_capability" => {
            if context
                .client_capabilities()
                .is_none_or(|can| can.sampling.is_none())
            {
                let needed = ClientCapabilities::builder().enable_sampling().build();
                return Err(ErrorData::missing_required_client_capability(needed));
            }
            text("The client can sample.".to_owned())
        }
        "test_reconnection" | "json_schema_2020_12_tool" => text("Done.".to_owned()),
        name if input::TOOLS.contains(&name) => {
            let can = context.client_capabilities().unwrap_or_default();
            let checked = name == "test_input_required_result_capabilities";
            let may = |method: &str| match method {
                _ if !checked => true,
                "elicitation/create" => can.elicitation.is_some(),
                "sampling/createMessage" => can.sampling.is_some(),
                _ => can.roots.is_some(),
            };
            match input::proceed(
                name,
                request.input_responses,
                request.request_state.as_deref(),
                may,
            )? {
                Progress::Ask(result) => Ok(result.into()),
                Progress::Done(answers) => {
                    let answers = json!(answers);
                    text(match answers["user_name"]["content"]["name"].as_str() {
                        Some(name) => format!("Hello, {name}!"),
                        None => format!("state-ok {answers}"),
                    })
                }
            }
        }
        name => Err(ErrorData::invalid_params(
            format!("there is no fixture {name:?}"),
            None,
        )),
    }
}

pub(super) fn resource(uri: &str, mime_type: &str, text: &str) -> ResourceContents {
    ResourceContents::TextResourceContents {
        uri: uri.to_owned(),
        mime_type: Some(mime_type.to_owned()),
        text: text.to_owned(),
        meta: None,
    }
}

fn failed(error: rmcp::service::ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

/// Asks the client, as revisions before 2026 have it. As a free-form request: the schemas of the suite go beyond what
/// the typed ones hold.
async fn ask(
    context: &RequestContext<RoleServer>,
    method: &str,
    params: Value,
) -> Result<Value, ErrorData> {
    let parts = context.extensions.get::<http::request::Parts>();
    if parts.is_none_or(|parts| !parts.headers.contains_key("mcp-session-id")) {
        return Err(ErrorData::internal_error(
            "without a session no answer would find its way back",
            None,
        ));
    }
    let request = ServerRequest::CustomRequest(CustomRequest::new(method, Some(params)));
    let answer = context.peer.send_request(request).await.map_err(failed)?;
    serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

async fn elicited(
    context: &RequestContext<RoleServer>,
    properties: Value,
) -> Result<String, ErrorData> {
    let schema = json!({ "type": "object", "properties": properties, "required": [] });
    let params = json!({ "message": "Please fill this in", "requestedSchema": schema });
    let answer = ask(context, "elicitation/create", params).await?;
    let action = answer["action"].as_str().unwrap_or_default();
    Ok(format!(
        "Elicitation completed: action={action}, content={}",
        answer["content"]
    ))
}

fn defaults() -> Value {
    json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    })
}

fn enums() -> Value {
    let plain = json!(["option1", "option2", "option3"]);
    let titled = |word: &str| {
        let option = |value: &str, number: &str| json!({ "const": value, "title": format!("{number} {word}") });
        json!([
            option("value1", "First"),
            option("value2", "Second"),
            option("value3", "Third")
        ])
    };
    json!({
        "untitledSingle": { "type": "string", "enum": plain },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    })
}

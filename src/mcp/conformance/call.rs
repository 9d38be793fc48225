//! The tools, prompts and resources of the suite that do more than answer with a fixture.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    CustomRequest, GetPromptRequestParams, GetPromptResponse, GetPromptResult, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam, PromptMessage, ProtocolVersion,
    ReadResourceResult, ResourceContents, Role, ServerRequest,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use super::fixture::{fill_fixture, find_fixture, internal_error};
use super::input::{Progress, continue_script};

type Context = RequestContext<RoleServer>;

/// Pause between two notifications.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn call_tool(
    request: CallToolRequestParams,
    context: &Context,
) -> Result<CallToolResponse, ErrorData> {
    let name = request.name.as_ref();
    match name {
        "test_tool_with_logging" | "test_logging_tool" => log_messages(name, context).await?,
        "test_tool_with_progress" => report_progress(context).await?,
        "test_sampling" | "test_elicitation" => {
            let arguments = request.arguments.unwrap_or_default();
            return ask_client(name, &Value::Object(arguments), context).await;
        }
        "test_missing_capability" => {
            let capabilities = context.client_capabilities();
            if capabilities.is_none_or(|can| can.sampling.is_none()) {
                let needed = ClientCapabilities::builder().enable_sampling().build();
                return Err(ErrorData::missing_required_client_capability(needed));
            }
        }
        _ => {}
    }
    if let Some(properties) = find_fixture("elicitations", name) {
        return elicit_form(properties, context).await;
    }
    match find_fixture::<CallToolResult>("results", name) {
        Some(result) => Ok(result.into()),
        None => run_script(request, context),
    }
}

fn text_result(text: String) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

async fn log_messages(name: &str, context: &Context) -> Result<(), ErrorData> {
    // Since 2026 a client gets messages only if it names a level.
    let is_legacy = context
        .protocol_version()
        .is_none_or(|version| version < ProtocolVersion::V_2026_07_28);
    let is_wanted =
        context.meta.log_level().is_some() || (is_legacy && name == "test_tool_with_logging");
    for step in ["started", "processing data", "completed"] {
        if is_wanted {
            let message = if step == "processing data" {
                "Tool processing data".to_owned()
            } else {
                format!("Tool execution {step}")
            };
            let param = LoggingMessageNotificationParam::new(LoggingLevel::Info, message.into());
            let sent = context.peer.notify_logging_message(param).await;
            sent.map_err(internal_error)?;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn report_progress(context: &Context) -> Result<(), ErrorData> {
    for progress in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let param = ProgressNotificationParam::new(token, progress).with_total(100.0);
            let sent = context.peer.notify_progress(param).await;
            sent.map_err(internal_error)?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn ask_client(
    name: &str,
    arguments: &Value,
    context: &Context,
) -> Result<CallToolResponse, ErrorData> {
    if name == "test_sampling" {
        let text = &arguments["prompt"];
        let params = json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": text } }], "maxTokens": 100,
        });
        let answer = send_request(context, "sampling/createMessage", params).await?;
        let text = answer["content"]["text"].as_str().unwrap_or_default();
        return Ok(text_result(format!("LLM response: {text}")));
    }
    let property = |description: &str| json!({ "type": "string", "description": description });
    let properties = json!({
        "username": property("User's response"), "email": property("User's email address"),
    });
    let schema = json!({
        "type": "object", "properties": properties, "required": ["username", "email"],
    });
    let params = json!({ "message": arguments["message"], "requestedSchema": schema });
    let answer = send_request(context, "elicitation/create", params).await?;
    let (action, content) = (&answer["action"], &answer["content"]);
    Ok(text_result(format!(
        "User response: action={action}, content={content}"
    )))
}

async fn elicit_form(properties: Value, context: &Context) -> Result<CallToolResponse, ErrorData> {
    let schema = json!({ "type": "object", "properties": properties, "required": [] });
    let params = json!({ "message": "Please fill this in", "requestedSchema": schema });
    let answer = send_request(context, "elicitation/create", params).await?;
    let action = answer["action"].as_str().unwrap_or_default();
    let content = &answer["content"];
    Ok(text_result(format!(
        "Elicitation completed: action={action}, content={content}"
    )))
}

/// Sends a request to the client, as revisions before 2026 do. It is a free-form request, because the schemas of the
/// suite go beyond the typed ones.
async fn send_request(context: &Context, method: &str, params: Value) -> Result<Value, ErrorData> {
    let parts = context.extensions.get::<http::request::Parts>();
    if parts.is_none_or(|parts| !parts.headers.contains_key("mcp-session-id")) {
        return Err(internal_error(
            "an answer needs a session to be returned in",
        ));
    }
    let request = ServerRequest::CustomRequest(CustomRequest::new(method, Some(params)));
    let answer = context.peer.send_request(request).await;
    serde_json::to_value(answer.map_err(internal_error)?).map_err(internal_error)
}

fn run_script(
    request: CallToolRequestParams,
    context: &Context,
) -> Result<CallToolResponse, ErrorData> {
    let name = request.name.as_ref();
    let can = context.client_capabilities().unwrap_or_default();
    let is_checked = name == "test_input_required_result_capabilities";
    let may = |method: &str| match method {
        _ if !is_checked => true,
        "elicitation/create" => can.elicitation.is_some(),
        "sampling/createMessage" => can.sampling.is_some(),
        _ => can.roots.is_some(),
    };
    let (responses, state) = (request.input_responses, request.request_state);
    match continue_script(name, responses, state.as_deref(), may)? {
        Progress::Ask(result) => Ok(result.into()),
        Progress::Done(answers) => {
            let answers = json!(answers);
            Ok(text_result(
                match answers["user_name"]["content"]["name"].as_str() {
                    Some(name) => format!("Hello, {name}!"),
                    None => format!("state-ok {answers}"),
                },
            ))
        }
    }
}

pub(super) fn get_prompt(request: GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let name = request.name.as_str();
    if let Some(mut messages) = find_fixture::<Value>("messages", name) {
        let arguments = request.arguments.unwrap_or_default().into_iter();
        let texts = arguments.filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
        fill_fixture(&mut messages, &texts.collect());
        let messages = serde_json::from_value(messages).map_err(internal_error)?;
        return Ok(GetPromptResult::new(messages).into());
    }
    let (responses, state) = (request.input_responses, request.request_state);
    match continue_script(name, responses, state.as_deref(), |_| true)? {
        Progress::Ask(result) => Ok(result.into()),
        Progress::Done(answers) => {
            let text = format!("In this context: {}", json!(answers));
            let messages = vec![PromptMessage::new_text(Role::User, text)];
            Ok(GetPromptResult::new(messages).into())
        }
    }
}

pub(super) fn read_resource(uri: &str) -> Option<ReadResourceResult> {
    let contents: Vec<ResourceContents> = find_fixture("contents", uri).or_else(|| {
        let id = uri
            .strip_prefix("test://template/")?
            .strip_suffix("/data")?;
        let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
        let contents = json!([
            { "uri": uri, "mimeType": "application/json", "text": data.to_string() },
        ]);
        serde_json::from_value(contents).ok()
    })?;
    Some(ReadResourceResult::new(contents))
}

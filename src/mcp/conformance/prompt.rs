//! The suite's prompts.

use rmcp::ErrorData;
use rmcp::model::{
    ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, Prompt,
    PromptArgument, PromptMessage, Role,
};
use serde_json::json;

use super::input::{self, Progress};
use super::tool::{PNG, resource};

pub(super) fn list() -> Vec<Prompt> {
    let prompts: [(&str, &[&str]); 5] = [
        ("test_simple_prompt", &[]),
        ("test_prompt_with_arguments", &["arg1", "arg2"]),
        ("test_prompt_with_embedded_resource", &["resourceUri"]),
        ("test_prompt_with_image", &[]),
        ("test_input_required_result_prompt", &[]),
    ];
    let argument = |name: &&str| {
        PromptArgument::new(*name)
            .with_description("A test argument")
            .with_required(true)
    };
    prompts
        .iter()
        .map(|(name, arguments)| {
            let arguments = arguments.iter().map(argument).collect();
            Prompt::new(
                *name,
                Some("A fixture of the conformance suite."),
                Some(arguments),
            )
        })
        .collect()
}

pub(super) fn get(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let value = request
            .arguments
            .as_ref()
            .and_then(|arguments| arguments.get(name))
            .and_then(|v| v.as_str());
        value.ok_or_else(|| ErrorData::invalid_params(format!("{name} is missing"), None))
    };
    let text = |text: String| PromptMessage::new_text(Role::User, text);
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1")?, argument("arg2")?);
            vec![text(format!(
                "Prompt with arguments: arg1='{first}', arg2='{second}'"
            ))]
        }
        "test_prompt_with_embedded_resource" => {
            let content = resource(
                argument("resourceUri")?,
                "text/plain",
                "Embedded resource content for testing.",
            );
            vec![
                PromptMessage::new(Role::User, ContentBlock::resource(content)),
                text("Please process the embedded resource above.".to_owned()),
            ]
        }
        "test_prompt_with_image" => vec![
            PromptMessage::new(Role::User, ContentBlock::image(PNG, "image/png")),
            text("Please analyze the image above.".to_owned()),
        ],
        "test_input_required_result_prompt" => {
            let (responses, state) = (
                request.input_responses.clone(),
                request.request_state.as_deref(),
            );
            match input::proceed(&request.name, responses, state, |_| true)? {
                Progress::Ask(result) => return Ok(result.into()),
                Progress::Done(answers) => {
                    vec![text(format!("In this context: {}", json!(answers)))]
                }
            }
        }
        name => {
            return Err(ErrorData::invalid_params(
                format!("there is no fixture {name:?}"),
                None,
            ));
        }
    };
    Ok(GetPromptResult::new(messages).into())
}

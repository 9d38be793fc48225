//! Fixtures that need something of the client before they answer (multi round-trip requests).

use rmcp::ErrorData;
use rmcp::model::{InputRequiredResult, InputResponses};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Keeps honest clients honest; a fixture has no secrets.
const KEY: &str = "conformance";

/// What a client is asked for, a map a round, and whether the rounds are kept in a state that travels with it.
struct Script {
    rounds: Vec<Value>,
    state: bool,
}

/// How far a call has come.
pub(super) enum Progress {
    /// The client has to answer first.
    Ask(InputRequiredResult),
    /// All is answered.
    Done(InputResponses),
}

fn elicit(message: &str, field: &str, kind: &str) -> Value {
    json!({ "method": "elicitation/create", "params": {
        "message": message,
        "requestedSchema": { "type": "object", "properties": { field: { "type": kind } }, "required": [field] },
    }})
}

fn sample(text: &str, most: u32) -> Value {
    json!({ "method": "sampling/createMessage", "params": {
        "messages": [{ "role": "user", "content": { "type": "text", "text": text } }], "maxTokens": most,
    }})
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

fn script(name: &str) -> Option<Script> {
    let name_of = || elicit("What is your name?", "name", "string");
    let confirm = || json!({ "confirm": elicit("Please confirm", "ok", "boolean") });
    let (rounds, state) = match name {
        "test_input_required_result_elicitation" | "test_streaming_elicitation" => {
            (vec![json!({ "user_name": name_of() })], false)
        }
        "test_input_required_result_sampling" => (
            vec![json!({ "capital_question": sample("What is the capital of France?", 100) })],
            false,
        ),
        "test_input_required_result_list_roots" => {
            (vec![json!({ "client_roots": roots() })], false)
        }
        "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => (vec![confirm()], true),
        "test_input_required_result_multiple_inputs" => {
            let greeting = sample("Generate a greeting", 50);
            (
                vec![
                    json!({ "user_name": name_of(), "greeting": greeting, "client_roots": roots() }),
                ],
                true,
            )
        }
        "test_input_required_result_multi_round" => (
            vec![
                json!({ "step1": elicit("Step 1: What is your name?", "name", "string") }),
                json!({ "step2": elicit("Step 2: What is your favorite color?", "color", "string") }),
            ],
            true,
        ),
        "test_input_required_result_capabilities" => (
            vec![json!({ "user_name": name_of(), "question": sample("Anything?", 10) })],
            false,
        ),
        "test_input_required_result_prompt" => (
            vec![
                json!({ "user_context": elicit("What context should the prompt use?", "context", "string") }),
            ],
            false,
        ),
        _ => return None,
    };
    Some(Script { rounds, state })
}

/// Names of the tools among them.
pub(super) const TOOLS: [&str; 9] = [
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
    "test_streaming_elicitation",
];

/// Goes on where the client's answers and state are. `may` tells whether the client can be asked by a method.
pub(super) fn proceed(
    name: &str,
    responses: Option<InputResponses>,
    state: Option<&str>,
    may: impl Fn(&str) -> bool,
) -> Result<Progress, ErrorData> {
    let script = script(name).ok_or_else(|| ErrorData::invalid_params("no such fixture", None))?;
    let mut round = match state {
        Some(state) if script.state => open(name, state)?,
        _ => 0,
    };
    let answered = responses.unwrap_or_default();
    // An answer counts for the round that the state names.
    let counts = !script.state || state.is_some();
    let complete = |round: usize| {
        let asked = script.rounds.get(round).and_then(Value::as_object);
        asked.is_some_and(|asked| {
            asked
                .keys()
                .all(|key| answered.get(key).is_some_and(Value::is_object))
        })
    };
    if counts && complete(round) {
        round += 1;
    }
    let Some(requests) = script.rounds.get(round) else {
        return Ok(Progress::Done(answered));
    };
    let mut requests = requests.clone();
    if let Some(requests) = requests.as_object_mut() {
        requests.retain(|_, request| request["method"].as_str().is_some_and(&may));
    }
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if script.state {
        result["requestState"] = seal(name, round).into();
    }
    serde_json::from_value(result)
        .map(Progress::Ask)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn seal(name: &str, round: usize) -> String {
    let mark = Sha256::digest(format!("{KEY} {name} {round}"));
    let mark: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{round}.{mark}")
}

fn open(name: &str, state: &str) -> Result<usize, ErrorData> {
    let round = state.split('.').next().and_then(|round| round.parse().ok());
    round
        .filter(|round| seal(name, *round) == state)
        .ok_or_else(|| ErrorData::invalid_params("requestState is not one of ours", None))
}

//! Fixtures that need answers of the client before they answer (multi round-trip requests).

use rmcp::ErrorData;
use rmcp::model::{InputRequiredResult, InputResponses};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fixture::{find_fixture, internal_error, unknown_fixture};

/// Protects against accidental changes only, because a fixture has no secrets.
const KEY: &str = "conformance";

/// The requests of each round by their names, and whether a state that travels with them names the round.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Script {
    rounds: Vec<serde_json::Map<String, Value>>,
    keeps_state: bool,
}

/// Progress of a call.
pub(super) enum Progress {
    /// The client must answer first.
    Ask(InputRequiredResult),
    /// The client has answered everything.
    Done(InputResponses),
}

/// Continues a call with the answers and the state of the client. `may` returns whether the client supports a
/// method.
pub(super) fn continue_script(
    name: &str,
    responses: Option<InputResponses>,
    state: Option<&str>,
    may: impl Fn(&str) -> bool,
) -> Result<Progress, ErrorData> {
    let script: Script = find_fixture("scripts", name).ok_or_else(|| unknown_fixture(name))?;
    let mut round = match state {
        Some(state) if script.keeps_state => open_state(name, state)?,
        _ => 0,
    };
    let answered = responses.unwrap_or_default();
    // An answer counts for the round that the state names.
    let counts = !script.keeps_state || state.is_some();
    let is_complete = script.rounds.get(round).is_some_and(|asked| {
        asked
            .keys()
            .all(|key| answered.get(key).is_some_and(Value::is_object))
    });
    round += usize::from(counts && is_complete);
    let Some(requests) = script.rounds.get(round) else {
        return Ok(Progress::Done(answered));
    };
    let mut requests = requests.clone();
    requests.retain(|_, request| request["method"].as_str().is_some_and(&may));
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if script.keeps_state {
        result["requestState"] = seal_state(name, round).into();
    }
    serde_json::from_value(result)
        .map(Progress::Ask)
        .map_err(internal_error)
}

fn seal_state(name: &str, round: usize) -> String {
    let mark = Sha256::digest(format!("{KEY} {name} {round}"));
    let mark: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{round}.{mark}")
}

fn open_state(name: &str, state: &str) -> Result<usize, ErrorData> {
    let round = state.split('.').next().and_then(|round| round.parse().ok());
    round
        .filter(|round| seal_state(name, *round) == state)
        .ok_or_else(|| ErrorData::invalid_params("requestState is not one of ours", None))
}

//! `eval --economy`: how much evidence the answers of `recall` contain for their length.

use serde_json::{Value, json};

use super::Failure;
use super::output::progress_bar;
use super::service_client::Memory;
use super::terminal::entries;
use crate::eval::{Asked, Economy, Question};

/// The details of an answer that are compared; the first is the default.
const DETAILS: [&str; 2] = ["text", "index"];

/// Asks the answerable questions again, as a model does, once for each detail. Evidence is an expected memory among the
/// hits of the first pass.
pub(super) async fn measure_economy(
    memory: &Memory,
    questions: &[Question],
    asked: &[Asked],
) -> Result<Vec<Economy>, Failure> {
    let answerable: Vec<(&Question, &Asked)> = questions
        .iter()
        .zip(asked)
        .filter(|(question, _)| !question.expected.is_empty())
        .collect();
    let bar = progress_bar(
        "asking again",
        (answerable.len() * DETAILS.len()) as u64,
        false,
    );
    let mut economies = Vec::with_capacity(DETAILS.len());
    for detail in DETAILS {
        let mut economy = Economy::of_detail(detail);
        for (question, asked) in &answerable {
            let mut arguments = serde_json::to_value(&question.ask).map_err(Failure::internal)?;
            arguments["detail"] = json!(detail);
            if let Some(arguments) = arguments.as_object_mut() {
                arguments.retain(|_, value| !value.is_null());
            }
            let answer = memory.ask("recall", arguments).await?;
            economy.add_answer(
                answer.text.chars().count(),
                count_evidence(&answer.structured, asked),
                question.expected.len(),
            );
            bar.inc(1);
        }
        economies.push(economy);
    }
    bar.finish_and_clear();
    Ok(economies)
}

/// Counts the hits that the first pass judged as expected.
fn count_evidence(answer: &Value, asked: &Asked) -> usize {
    let is_expected = |hit: &Value| {
        let id = hit["id"].as_str().unwrap_or_default();
        asked.came.iter().any(|came| came.right && came.id == id)
    };
    entries(answer, "hits")
        .filter(|hit| is_expected(hit))
        .count()
}

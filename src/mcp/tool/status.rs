//! `status`.

use rmcp::model::{JsonObject, ToolAnnotations};

use super::recall::one_line;
use super::{Answer, ModelTool, ToolError, build_answer, given_count};
use crate::domain::count::count_of;
use crate::engine::{Call, Engine, StatusOutput, StatusParams, ValueCounts};

pub(crate) struct Status;

impl ModelTool for Status {
    type Params = StatusParams;
    type Output = StatusOutput;

    const NAME: &'static str = "status";
    const TITLE: &'static str = "Status";
    const DESCRIPTION: &'static str =
        "Counts, tags, sessions, speakers and entity types in use, database and version.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().read_only(true)
    }

    fn reads_much(arguments: &JsonObject) -> bool {
        given_count(arguments, "limit") > 100
    }

    async fn run(engine: &Engine, call: &Call, params: StatusParams) -> Result<Answer, ToolError> {
        let output = engine.status(call, params).await?;
        let text = print_status(&output);
        Ok(build_answer(&output, text))
    }
}

fn print_status(output: &StatusOutput) -> String {
    let kinds: Vec<String> = output
        .by_kind
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let kinds = if kinds.is_empty() {
        String::new()
    } else {
        format!(" ({})", kinds.join(", "))
    };
    // Without a model nothing is awaited.
    let backlog = output
        .model
        .as_ref()
        .map(|_| format!(", {} awaiting embedding", output.index_backlog));
    let mut lines = vec![format!(
        "Project {}: {}{kinds}, {} superseded, {} deleted{}, {}.",
        output.project,
        count_of(output.memories, "memory"),
        output.superseded,
        output.deleted,
        backlog.unwrap_or_default(),
        count_of(output.open_reviews, "open review")
    )];
    if output.readable_projects.len() > 1 {
        lines.push(format!(
            "Readable projects: {}",
            output.readable_projects.join(", ")
        ));
    }
    let lists = [
        ("Tags", &output.tags),
        ("Sessions", &output.sessions),
        ("Speakers", &output.speakers),
        ("Entity types", &output.entity_types),
    ];
    lines.extend(
        lists
            .iter()
            .filter(|(_, values)| !values.top.is_empty())
            .map(|(name, values)| list(name, values)),
    );
    lines.push(format!(
        "Version {}, {} {} (schema {}), {}.",
        output.version,
        output.database,
        output.database_version,
        output.schema_version,
        output.model.as_ref().map_or_else(
            || "no embedding model: recall by words alone".to_owned(),
            |model| format!("embedding model {model}")
        )
    ));
    lines.join("\n")
}

fn list(name: &str, values: &ValueCounts) -> String {
    let mut parts: Vec<String> = values
        .top
        .iter()
        .map(|value| format!("{} {}", one_line(&value.value), value.count))
        .collect();
    if values.more > 0 {
        parts.push(format!("and {} more", values.more));
    }
    format!("{name}: {}", parts.join(", "))
}

//! The subscriber layer: collects the fields of an event and of the spans around it.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Service;
use super::line::{Form, Record, render_line};
use super::queue::Queue;
use crate::join_causes;

/// One output with its format.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) queue: Queue,
    pub(super) service: Service,
    pub(super) form: Form,
    pub(super) has_priority: bool,
}

/// Writes every event to every output.
#[derive(Debug)]
pub(super) struct LogLayer {
    pub(super) now: fn() -> DateTime<Utc>,
    pub(super) targets: Vec<Target>,
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        let spans = context.event_scope(event);
        for span in spans.into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    fields.set_value(name, value.clone());
                }
            }
        }
        // A span may have a field of this name, but the message belongs to the event.
        fields.take_message();
        event.record(&mut fields);
        let metadata = event.metadata();
        let record = Record {
            time: (self.now)(),
            level: *metadata.level(),
            target: metadata.target(),
            message: fields.take_message(),
            fields: fields.0,
        };
        for target in &self.targets {
            let line = render_line(&record, &target.service, target.form, target.has_priority);
            target.queue.push_line(line);
        }
    }
}

/// Name under which `tracing` passes the message.
const MESSAGE: &str = "message";

/// Names and values. Each name occurs once, in the order of first appearance.
#[derive(Default)]
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn set_value(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn take_message(&mut self) -> String {
        let position = self.0.iter().position(|(name, _)| name == MESSAGE);
        match position.map(|at| self.0.remove(at).1) {
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        let number = serde_json::Number::from_f64(value)
            .map_or_else(|| Value::String(value.to_string()), Value::Number);
        self.set_value(field.name(), number);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set_value(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set_value(field.name(), value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        let number = i64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from);
        self.set_value(field.name(), number);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let number = u64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from);
        self.set_value(field.name(), number);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set_value(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_value(field.name(), value.into());
    }

    /// Records the error with its causes, because no `Display` repeats its source.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set_value(field.name(), join_causes(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_value(field.name(), format!("{value:?}").into());
    }
}

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

use super::line::{Form, Record, render};
use super::queue::Queue;

/// One output with its form.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) queue: Queue,
    pub(super) form: Form,
    pub(super) prefix: bool,
}

/// Writes every event to every output.
#[derive(Debug)]
pub(super) struct LogLayer {
    service: &'static str,
    now: fn() -> DateTime<Utc>,
    targets: Vec<Target>,
}

impl LogLayer {
    pub(super) fn new(
        service: &'static str,
        now: fn() -> DateTime<Utc>,
        targets: Vec<Target>,
    ) -> Self {
        Self {
            service,
            now,
            targets,
        }
    }
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
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    fields.set(name, value.clone());
                }
            }
        }
        // A span may have a field of this name; the message is the event's.
        fields.0.retain(|(name, _)| name != MESSAGE);
        event.record(&mut fields);
        let message = match fields
            .0
            .iter()
            .position(|(name, _)| name == MESSAGE)
            .map(|at| fields.0.remove(at).1)
        {
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let metadata = event.metadata();
        let record = Record {
            time: (self.now)(),
            level: *metadata.level(),
            target: metadata.target(),
            message,
            fields: fields.0,
        };
        for target in &self.targets {
            target
                .queue
                .push(render(&record, self.service, target.form, target.prefix));
        }
    }
}

/// Name under which `tracing` passes the message.
const MESSAGE: &str = "message";

/// Names and values, each name once, in the order of their first appearance.
#[derive(Default)]
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        let number = serde_json::Number::from_f64(value)
            .map_or_else(|| Value::String(value.to_string()), Value::Number);
        self.set(field.name(), number);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        let number =
            i64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::from);
        self.set(field.name(), number);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let number =
            u64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::from);
        self.set(field.name(), number);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    /// The whole chain: it is logged once, where it is handled, and no `Display` repeats its source.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.set(field.name(), text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}").into());
    }
}

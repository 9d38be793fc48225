//! Reads the columns of a row by name, in the same way for both databases.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Error;
use uuid::Uuid;

use crate::domain::ObjectText;

type Result<T> = std::result::Result<T, Error>;

/// Access to the columns of a row by name.
pub(super) trait Fields {
    fn text(&self, column: &str) -> Result<String>;
    fn optional_text(&self, column: &str) -> Result<Option<String>>;
    fn integer(&self, column: &str) -> Result<i64>;
    fn optional_integer(&self, column: &str) -> Result<Option<i64>>;
    fn real(&self, column: &str) -> Result<f64>;
    fn flag(&self, column: &str) -> Result<bool>;
    fn uuid(&self, column: &str) -> Result<Uuid>;
    fn optional_uuid(&self, column: &str) -> Result<Option<Uuid>>;
    fn bytes(&self, column: &str) -> Result<Vec<u8>>;
    fn uuids(&self, column: &str) -> Result<Vec<Uuid>>;
    fn texts(&self, column: &str) -> Result<Vec<String>>;
    fn optional_json(&self, column: &str) -> Result<Option<Value>>;
    fn optional_time(&self, column: &str) -> Result<Option<DateTime<Utc>>>;

    fn time(&self, column: &str) -> Result<DateTime<Utc>> {
        let missing = || decoding_error(column, "a time is missing");
        self.optional_time(column)?.ok_or_else(missing)
    }

    fn json(&self, column: &str) -> Result<Value> {
        Ok(self.optional_json(column)?.unwrap_or_default())
    }

    /// Returns a JSON object as text, because text outlives the row.
    fn object(&self, column: &str) -> Result<ObjectText> {
        Ok(match self.json(column)? {
            Value::Object(object) => object.into(),
            _ => ObjectText::default(),
        })
    }

    /// Returns a value that is stored as a word, for example a kind.
    fn word<T: FromStr<Err = String>>(&self, column: &str) -> Result<T> {
        let text = self.text(column)?;
        text.parse()
            .map_err(|error: String| decoding_error(column, &error))
    }
}

/// Implements the methods for types that both drivers decode directly.
macro_rules! plain_fields {
    () => {
        $crate::store::row_reader::plain_fields! {
            text: String, optional_text: Option<String>, integer: i64, optional_integer: Option<i64>, real: f64,
            flag: bool, uuid: uuid::Uuid, optional_uuid: Option<uuid::Uuid>, bytes: Vec<u8>
        }
    };
    ($($method:ident: $type:ty),+) => {
        $(fn $method(&self, column: &str) -> sqlx::Result<$type> {
            sqlx::Row::try_get(self, column)
        })+
    };
}
pub(super) use plain_fields;

pub(super) fn decoding_error(column: &str, reason: &str) -> Error {
    Error::ColumnDecode {
        index: column.to_owned(),
        source: reason.into(),
    }
}

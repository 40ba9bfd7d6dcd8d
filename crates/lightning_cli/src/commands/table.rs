//! What an imported table looked like, kept beside the rows, and its rows as JSON.
//!
//! In the keyspace `lightning_cli_imports`, under the name of the keyspace that holds the rows:
//! `{"format":"csv","key":"<column>","columns":["…", …]}`, the columns in the order of the file.
//! A row is stored under the bytes of its key column, as a JSON object of the other columns in
//! the same order, every field a string.

use lightning_db::{Database, Error, ErrorKind, WriteBatch};
use serde_json::{Map, Value, json};

use crate::args::DurabilityArg;
use crate::engine;
use crate::exit::{Outcome, Stop};

/// The keyspace that says what was imported where.
pub const KEYSPACE: &str = "lightning_cli_imports";

/// The columns of a table, and which of them is the key.
#[derive(PartialEq, Eq, Debug)]
pub struct Table {
    columns: Vec<String>,
    key: usize,
}

impl Table {
    /// A table with these columns; or what is wrong with them.
    pub fn new(columns: Vec<String>, key: &str) -> Result<Self, String> {
        for (i, name) in columns.iter().enumerate() {
            if columns[..i].contains(name) {
                return Err(format!("the header has two columns `{name}`"));
            }
        }
        match columns.iter().position(|c| c == key) {
            Some(key) => Ok(Self { columns, key }),
            None => Err(format!(
                "there is no column `{key}` to be the key; the header has: {}",
                columns.join(", ")
            )),
        }
    }

    /// The columns in the order of the file.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Which column is the key.
    pub fn key(&self) -> usize {
        self.key
    }

    /// The row's value: its other columns; or the first column that is not UTF-8.
    pub fn value(&self, row: &csv::ByteRecord) -> Result<Vec<u8>, String> {
        let mut object = Map::with_capacity(self.columns.len());
        for (i, (name, field)) in self.columns.iter().zip(row).enumerate() {
            if i == self.key {
                continue;
            }
            let text = std::str::from_utf8(field)
                .map_err(|_| format!("the field of column `{name}` is not UTF-8"))?;
            object.insert(name.clone(), text.into());
        }
        Ok(Value::Object(object).to_string().into_bytes())
    }

    /// The row that [`value`](Self::value) made; `None` where these bytes are no such row.
    pub fn row(&self, key: &[u8], value: &[u8]) -> Option<csv::ByteRecord> {
        let Ok(Value::Object(object)) = serde_json::from_slice(value) else { return None };
        if object.len() + 1 != self.columns.len() {
            return None;
        }
        let mut row = csv::ByteRecord::with_capacity(key.len() + value.len(), self.columns.len());
        for (i, name) in self.columns.iter().enumerate() {
            if i == self.key {
                row.push_field(key);
            } else {
                row.push_field(object.get(name)?.as_str()?.as_bytes());
            }
        }
        Some(row)
    }

    /// The table that was imported into a keyspace, where one was.
    pub fn of(db: &Database, keyspace: &str) -> Outcome<Option<Self>> {
        if !db.list_keyspaces().iter().any(|n| n == KEYSPACE) {
            return Ok(None);
        }
        let Some(bytes) = engine::existing_keyspace(db, KEYSPACE)?.get(keyspace.as_bytes())? else {
            return Ok(None);
        };
        match Self::decode(&bytes) {
            Some(table) => Ok(Some(table)),
            None => {
                let message = format!("what `{KEYSPACE}` holds for `{keyspace}` is no table");
                Err(Error::new(ErrorKind::InvalidArgument, message).into())
            }
        }
    }

    /// Notes that a keyspace holds this table; refuses where it holds one with other columns.
    pub fn note(&self, db: &Database, keyspace: &str, durability: &DurabilityArg) -> Outcome<()> {
        if self.is_noted(db, keyspace)? {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        batch.put_in(&engine::keyspace(db, KEYSPACE)?, keyspace, self.encode());
        engine::write(db, batch, durability)?;
        Ok(())
    }

    /// Whether it is noted already; an error where another table is.
    pub fn is_noted(&self, db: &Database, keyspace: &str) -> Outcome<bool> {
        if keyspace == KEYSPACE {
            return Err(Stop::invalid(format!("`{KEYSPACE}` is kept for what was imported")));
        }
        match Self::of(db, keyspace)? {
            Some(held) if held == *self => Ok(true),
            Some(held) => Err(Stop::invalid(format!(
                "keyspace `{keyspace}` holds a table with other columns ({}; key `{}`): import \
                 into another --keyspace",
                held.columns.join(", "),
                held.columns[held.key]
            ))),
            None => Ok(false),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let key = &self.columns[self.key];
        json!({"format": "csv", "key": key, "columns": self.columns}).to_string().into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        let columns = document.get("columns")?.as_array()?;
        let columns: Vec<String> =
            columns.iter().map(|c| c.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        Self::new(columns, document.get("key")?.as_str()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = ["z", "id", "a"].map(str::to_owned).to_vec();
        Table::new(columns, "id").expect("a good header")
    }

    #[test]
    fn rows_keep_fields_and_column_order() {
        let row = csv::ByteRecord::from(vec!["1, \"2\"\n", "key", "naïve"]);
        let value = table().value(&row).expect("UTF-8");
        let expected = "{\"z\":\"1, \\\"2\\\"\\n\",\"a\":\"naïve\"}";
        assert_eq!(String::from_utf8_lossy(&value), expected);
        assert_eq!(table().row(b"key", &value), Some(row));
    }

    #[test]
    fn what_is_no_row_of_the_table_is_told_apart() {
        for value in ["", "3", "{}", r#"{"z":"1"}"#, r#"{"z":"1","b":"2"}"#, r#"{"z":1,"a":"2"}"#] {
            assert_eq!(table().row(b"key", value.as_bytes()), None, "{value}");
        }
        let not_text = csv::ByteRecord::from(vec![&b"ok"[..], b"\xFF", b"\xFF"]);
        assert!(table().value(&not_text).expect_err("not UTF-8").contains("`a`"));
    }

    #[test]
    fn the_note_round_trips_and_headers_are_checked() {
        assert_eq!(Table::decode(&table().encode()), Some(table()));
        assert_eq!(Table::decode(b"{}"), None);
        let twice = ["a", "b", "a"].map(str::to_owned).to_vec();
        assert!(Table::new(twice, "b").expect_err("two of a name").contains("`a`"));
        let e = Table::new(vec!["a".to_owned()], "id").expect_err("no such column");
        assert!(e.contains("`id`") && e.contains("has: a"), "{e}");
    }
}

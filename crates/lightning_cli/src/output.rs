//! What goes to standard output: text for people, or one JSON document a line for programs.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

use serde_json::{Map, Value};

use crate::args::Format;
use crate::exit::{Outcome, Stop};
use crate::text;

/// Standard output, buffered; [`finish`](Self::finish) it.
pub struct Output {
    format: Format,
    hex: bool,
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Output in `format`; keys and values in hexadecimal where `hex`.
    pub fn new(format: Format, hex: bool) -> Self {
        Self { format, hex, out: BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }

    /// A key and its value.
    pub fn pair(&mut self, key: &[u8], value: &[u8]) -> Outcome<()> {
        match self.format {
            Format::Json => {
                let mut object = Map::new();
                text::put_field(&mut object, "key", key, self.hex);
                text::put_field(&mut object, "value", value, self.hex);
                self.json(&Value::Object(object))
            }
            Format::Text => {
                let line = format!("{}\t{}", self.shown(key), self.shown(value));
                self.line(&line)
            }
        }
    }

    /// A value alone.
    pub fn value(&mut self, value: &[u8]) -> Outcome<()> {
        match self.format {
            Format::Json => {
                let mut object = Map::new();
                text::put_field(&mut object, "value", value, self.hex);
                self.json(&Value::Object(object))
            }
            Format::Text => {
                let line = self.shown(value);
                self.line(&line)
            }
        }
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.out.write_all(bytes).map_err(failed)
    }

    /// A result: `document` for programs, `text` for people.
    pub fn result(&mut self, document: &Value, text: &str) -> Outcome<()> {
        match self.format {
            Format::Json => self.json(document),
            Format::Text => self.line(text),
        }
    }

    /// A result whose text is its fields, one a line, nested ones indented.
    pub fn fields(&mut self, document: &Value) -> Outcome<()> {
        match self.format {
            Format::Json => self.json(document),
            Format::Text => {
                let mut lines = String::new();
                outline(document, 0, &mut lines);
                self.out.write_all(lines.as_bytes()).map_err(failed)
            }
        }
    }

    /// Hands what there is so far to the system.
    pub fn flush(&mut self) -> Outcome<()> {
        self.out.flush().map_err(failed)
    }

    /// Hands everything to the system.
    pub fn finish(mut self) -> Outcome<()> {
        self.flush()
    }

    fn shown(&self, bytes: &[u8]) -> String {
        if self.hex { text::to_hex(bytes) } else { text::printable(bytes) }
    }

    fn json(&mut self, document: &Value) -> Outcome<()> {
        self.line(&document.to_string())
    }

    fn line(&mut self, line: &str) -> Outcome<()> {
        writeln!(self.out, "{line}").map_err(failed)
    }
}

fn failed(e: io::Error) -> Stop {
    Stop::output(Path::new("standard output"), e)
}

fn outline(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let mut item = |label: String, v: &Value| {
        out.push_str(&indent);
        out.push_str(&label);
        match v {
            Value::Object(_) | Value::Array(_) => {
                out.push('\n');
                return outline(v, depth + 1, out);
            }
            Value::String(s) => out.extend([" ", s]),
            Value::Null => out.push_str(" -"),
            other => out.extend([" ", &other.to_string()]),
        }
        out.push('\n');
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| item(format!("{k}:"), v)),
        Value::Array(list) => list.iter().for_each(|v| item("-".to_owned(), v)),
        scalar => item(String::new(), scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_fields_are_indented() {
        let mut out = String::new();
        let document = json!({"a": 1, "b": {"c": "x", "d": null}, "e": [true, "y"]});
        outline(&document, 0, &mut out);
        assert_eq!(out, "a: 1\nb:\n  c: x\n  d: -\ne:\n  - true\n  - y\n");
    }
}

//! get --at, history, changes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning_db::{
    ChangeKind, ChangesFrom, CommittedChanges, Database, Error, ErrorKind, Keyspace, Moment,
};
use serde_json::{Map, Value, json};

use crate::args::{Format, KeyspaceArg, Target};
use crate::engine;
use crate::exit::{Outcome, Stop};
use crate::output::Output;
use crate::text;

/// Between two looks at a database that is followed.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The value that a key had.
pub fn value_at(
    db: &Database,
    keyspace: &Keyspace,
    key: &[u8],
    at: &str,
) -> Outcome<Option<Vec<u8>>> {
    Ok(db.snapshot_at(moment(at)?)?.get_in(keyspace, key)?)
}

/// What a key became.
pub fn history(
    format: Format,
    target: &Target,
    keyspace: &KeyspaceArg,
    key: &[u8],
    hex: bool,
) -> Outcome<u8> {
    let db = engine::open_read_only(target)?;
    let versions = engine::existing_keyspace(&db, &keyspace.keyspace)?.history(key)?;
    let mut out = Output::new(format, hex);
    for version in versions {
        let time = version.time.map(utc);
        let mut document = Map::new();
        document.insert("commit".to_owned(), json!(version.commit));
        document.insert("time".to_owned(), json!(time));
        let shown = match &version.value {
            Some(value) => {
                text::put_field(&mut document, "value", value, hex);
                if hex { text::to_hex(value) } else { text::printable(value) }
            }
            None => {
                document.insert("deleted".to_owned(), json!(true));
                "(deleted)".to_owned()
            }
        };
        let time = time.unwrap_or_else(|| "-".to_owned());
        out.result(&Value::Object(document), &format!("{}\t{time}\t{shown}", version.commit))?;
    }
    out.finish()?;
    Ok(0)
}

/// What `changes` is asked for.
pub struct Asked {
    pub from: Option<u64>,
    pub cursor: Option<String>,
    pub follow: bool,
    pub keyspace: Option<String>,
    pub prefix: Option<String>,
}

/// Prints commits as they are in the log.
pub fn changes(format: Format, target: &Target, asked: &Asked, hex: bool) -> Outcome<u8> {
    let mut out = Output::new(format, hex);
    let mut passed = asked.from.map(|from| from.saturating_sub(1));
    loop {
        match opened(target, asked) {
            Ok(db) => {
                passed = Some(print_changes(&db, asked, passed, &mut out, format, hex)?);
                db.close()?;
            }
            // Somebody writes to it.
            Err(e) if asked.follow && e.kind() == ErrorKind::Locked => {}
            Err(e) => return Err(e.into()),
        }
        out.flush()?;
        if !asked.follow {
            return Ok(0);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn opened(target: &Target, asked: &Asked) -> Result<Database, Error> {
    if asked.cursor.is_some() { engine::open(target) } else { engine::open_read_only(target) }
}

/// Prints what there is behind `passed`, and moves the cursor; returns the last commit passed.
fn print_changes(
    db: &Database,
    asked: &Asked,
    passed: Option<u64>,
    out: &mut Output,
    format: Format,
    hex: bool,
) -> Outcome<u64> {
    let known = |name: &str| db.list_cursors().map(|all| all.iter().any(|c| c.name == name));
    let from = match (&asked.cursor, passed) {
        (Some(name), _) if known(name)? => ChangesFrom::Cursor(name.clone()),
        (_, Some(commit)) => ChangesFrom::After(commit),
        _ => ChangesFrom::Oldest,
    };
    let mut changes = db.changes(from)?;
    if let Some(keyspace) = &asked.keyspace {
        changes = changes.in_keyspaces(&[keyspace]);
    }
    if let Some(prefix) = &asked.prefix {
        let prefix = if hex {
            text::from_hex(prefix).map_err(|e| Stop::invalid(format!("prefix: {e}")))?
        } else {
            prefix.as_bytes().to_vec()
        };
        changes = changes.with_prefix(prefix);
    }
    while let Some(commit) = changes.try_next()? {
        print_commit(&commit, out, format, hex)?;
    }
    let position = changes.passed();
    drop(changes);
    if let Some(name) = &asked.cursor {
        // What was printed counts as done with once it has left this process.
        out.flush()?;
        db.commit_cursor(name, position)?;
    }
    Ok(position)
}

fn print_commit(
    commit: &CommittedChanges,
    out: &mut Output,
    format: Format,
    hex: bool,
) -> Outcome<()> {
    let shown = |bytes: &[u8]| if hex { text::to_hex(bytes) } else { text::printable(bytes) };
    if format == Format::Text {
        for change in &commit.changes {
            let key = shown(&change.key);
            let what = match &change.kind {
                ChangeKind::Put(value) => format!("put\t{key}\t{}", shown(value)),
                ChangeKind::Delete => format!("delete\t{key}"),
                ChangeKind::DeleteRange(end) => {
                    format!(
                        "delete-range\t{key}\t{}",
                        end.as_ref().map_or_else(String::new, |e| shown(e))
                    )
                }
                ChangeKind::Merge(operands) => {
                    let operands: Vec<_> = operands.iter().map(|o| shown(o)).collect();
                    format!("merge\t{key}\t{}", operands.join("\t"))
                }
                other => format!("{other:?}\t{key}"),
            };
            out.result(&Value::Null, &format!("{}\t{}\t{what}", commit.commit, change.keyspace))?;
        }
        return Ok(());
    }
    let changes: Vec<Value> = commit
        .changes
        .iter()
        .map(|change| {
            let mut document = Map::new();
            document.insert("keyspace".to_owned(), json!(change.keyspace));
            let op = match &change.kind {
                ChangeKind::Put(_) => "put",
                ChangeKind::Delete => "delete",
                ChangeKind::Merge(_) => "merge",
                ChangeKind::DeleteRange(_) => "delete_range",
                _ => "other",
            };
            document.insert("op".to_owned(), json!(op));
            text::put_field(&mut document, "key", &change.key, hex);
            if let Some(end) = change.expires_at {
                document.insert("expires_at_ms".to_owned(), json!(end.as_millis() as u64));
            }
            match &change.kind {
                ChangeKind::Put(value) => text::put_field(&mut document, "value", value, hex),
                ChangeKind::DeleteRange(Some(end)) => {
                    text::put_field(&mut document, "end", end, hex);
                }
                ChangeKind::Merge(operands) => {
                    let field = |operand: &Vec<u8>| {
                        let mut field = Map::new();
                        text::put_field(&mut field, "operand", operand, hex);
                        Value::Object(field)
                    };
                    document.insert("operands".to_owned(), operands.iter().map(field).collect());
                }
                _ => {}
            }
            Value::Object(document)
        })
        .collect();
    out.result(&json!({"commit": commit.commit, "changes": changes}), "")
}

/// A moment as it is typed: a commit's number, a time in UTC, or how long ago.
fn moment(text: &str) -> Outcome<Moment> {
    if let Ok(commit) = text.parse::<u64>() {
        return Ok(Moment::Commit(commit));
    }
    let refused = || {
        Stop::invalid(format!(
            "`{text}` is no moment: a commit's number, a time in UTC such as \
             2026-01-31T12:00:00Z, or how long ago (90s, 10m, 2h, 7d)"
        ))
    };
    if let Some(seconds) = ago(text) {
        let then = SystemTime::now().checked_sub(Duration::from_secs(seconds));
        return then.map(Moment::Time).ok_or_else(refused);
    }
    let seconds = from_utc(text).ok_or_else(refused)?;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.map(Moment::Time).ok_or_else(refused)
}

fn ago(text: &str) -> Option<u64> {
    let at = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at))?;
    let scale = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    text[..at].parse::<u64>().ok()?.checked_mul(scale)
}

/// Days since 1970 of a date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !(1970..=9999).contains(&year) || day == 0 || day > *length {
        return None;
    }
    let years = year - 1;
    let before = years * 365 + years / 4 - years / 100 + years / 400;
    let months: u64 = lengths[..month as usize - 1].iter().sum();
    Some(before + months + day - 1 - 719_162)
}

/// Seconds since 1970 of a time such as `2026-01-31T12:00:00Z`.
fn from_utc(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(by).map(|p| p.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [h, m, s]) = (numbers(date, '-')?, numbers(time, ':')?);
    (h < 24 && m < 60 && s < 60).then_some(())?;
    Some(days(year, month, day)? * 86_400 + h * 3600 + m * 60 + s)
}

/// A time as `from_utc` reads it.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970 + day / 366;
    while days(year + 1, 1, 1).is_some_and(|first| first <= day) {
        year += 1;
    }
    let is_later = |month: &u64| days(year, *month, 1).is_some_and(|first| first <= day);
    let month = (1..=12).take_while(is_later).last().unwrap_or(1);
    let in_month = day - days(year, month, 1).unwrap_or(day) + 1;
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{in_month:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for seconds in [0, 86_399, 951_782_400, 1_709_251_199, 1_709_251_200, 4_102_444_799] {
            let text = utc(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(from_utc(&text), Some(seconds), "{text}");
        }
        assert_eq!(from_utc("2000-02-29T00:00:00Z"), Some(951_782_400));
        for bad in ["2001-02-29T00:00:00Z", "2000-13-01T00:00:00Z", "2000-01-01", "yesterday"] {
            assert_eq!(from_utc(bad), None, "{bad}");
        }
        assert_eq!(
            (ago("90s"), ago("2h"), ago("7d"), ago("7w"), ago("é")),
            (Some(90), Some(7200), Some(604_800), None, None)
        );
    }
}

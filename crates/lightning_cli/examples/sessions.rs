//! Sessions of a web service, each with a lifetime that every use renews.
//!
//! ```text
//! cargo run --release -p lightning_cli --example sessions
//! ```
//!
//! A keyspace of its own gives each session half a second; whoever comes back in time stays signed in.
//! What has expired is gone for every read at once; merges give its space back behind the calls.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program around the engine, which waits as its users would"
)]

use std::thread::sleep;
use std::time::Duration;

use lightning_db::{Database, Keyspace, KeyspaceOptions, Result};

const LIFETIME: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let db = Database::create_temp()?;
    let options = KeyspaceOptions { default_ttl: Some(LIFETIME), ..KeyspaceOptions::default() };
    let sessions = db.keyspace("sessions", options)?;
    for (token, user) in [("t-ada", "ada"), ("t-grace", "grace")] {
        sessions.put(token, user)?;
    }
    // A session that lasts longer than others; a key that stays needs no keyspace with a default.
    sessions.put_with_ttl("t-robot", "backup", Duration::from_secs(3600))?;
    show("signed in", &sessions)?;

    sleep(LIFETIME / 2);
    println!("\ngrace comes back: {:?}", touch(&sessions, b"t-grace")?);
    sleep(LIFETIME * 3 / 4);
    show("later", &sessions)?;
    assert_eq!(touch(&sessions, b"t-ada")?, None, "her session has expired");

    // A snapshot sees what lived when it was taken, whatever the clock does.
    let snapshot = db.snapshot()?;
    sleep(LIFETIME);
    let seen = snapshot.range_in(&sessions, None, None)?.count();
    println!("\nnow {} sessions, in the snapshot {seen}", sessions.count(None, None)?);
    assert!(sessions.count(None, None)? < seen as u64);
    drop(snapshot);

    // Merges do this by themselves, in time.
    sessions.compact()?;
    let stats = db.stats();
    let kept = stats.keyspaces.iter().find(|k| k.name == "sessions").map_or(0, |k| k.entries);
    println!("after a merge {kept} entry is left on disk");
    assert_eq!(kept, 1);
    db.close()
}

/// The user of a session, which lives anew; `None` where it is over.
fn touch(sessions: &Keyspace, token: &[u8]) -> Result<Option<String>> {
    // In one step: a session that is signed out meanwhile does not come back.
    let user = sessions.fetch_update(token, |user| user.map(<[u8]>::to_vec))?;
    Ok(user.map(|user| String::from_utf8_lossy(&user).into_owned()))
}

fn show(when: &str, sessions: &Keyspace) -> Result<()> {
    println!("\n{when}:");
    for entry in sessions.range(None, None)? {
        let (token, _) = entry?;
        if let Some((user, left)) = sessions.get_with_ttl(&token)? {
            let (token, user) = (String::from_utf8_lossy(&token), String::from_utf8_lossy(&user));
            println!("  {token:10} {user:8} {:?} left", left.unwrap_or_default());
        }
    }
    Ok(())
}

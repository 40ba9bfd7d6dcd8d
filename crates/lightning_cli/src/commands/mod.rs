//! One function a command; each gives its exit code.
//!
//! | file | commands |
//! |---|---|
//! | `data` | put, merge, get, delete, delete-range, scan |
//! | `import` | import csv, import jsonl |
//! | `export` | export csv, export jsonl |
//! | `index` | index create, drop, list, get, range |
//! | `past` | get --at, history, changes |
//! | `table` | what an imported table looked like, and its rows as JSON |
//! | `upkeep` | create, stats, inspect, check, compact, flush, list-keyspaces, rotate-key, completions |

mod data;
mod export;
mod import;
mod index;
mod past;
mod table;
mod upkeep;

use crate::args::{Cli, Command, Export, Import};
use crate::bench;
use crate::exit::Outcome;

/// Does what was typed.
pub fn run(cli: Cli) -> Outcome<u8> {
    let format = cli.format;
    match cli.command {
        Command::Create { target } => upkeep::create(format, &target),
        Command::Put { target, key, value, keyspace, durability, hex, ttl } => {
            data::put(&target, &keyspace, &key, &value, &durability, hex, ttl)
        }
        Command::Get { target, key, keyspace, hex, raw, at } => {
            data::get(format, &target, &keyspace, &key, hex, raw, at.as_deref())
        }
        Command::History { target, key, keyspace, hex } => {
            let key = data::key_bytes(&key, hex)?;
            past::history(format, &target, &keyspace, &key, hex)
        }
        Command::Changes { target, from, cursor, follow, keyspace, prefix, hex } => {
            let asked = past::Asked { from, cursor, follow, keyspace, prefix };
            past::changes(format, &target, &asked, hex)
        }
        Command::Merge { target, key, operand, keyspace, operator, durability, hex } => {
            data::merge(&target, (&keyspace, operator), (&key, &operand), &durability, hex)
        }
        Command::Delete { target, key, keyspace, durability, hex } => {
            data::delete(&target, &keyspace, &key, &durability, hex)
        }
        Command::DeleteRange { target, prefix, start, end, all, keyspace, durability, hex } => {
            let bounds = data::Bounds { prefix, start, end, reverse: false, limit: None };
            data::delete_range(&target, &keyspace, &bounds, all, &durability, hex)
        }
        Command::Scan { target, keyspace, prefix, start, end, reverse, limit, hex } => {
            let bounds = data::Bounds { prefix, start, end, reverse, limit };
            data::scan(format, &target, &keyspace, &bounds, hex)
        }
        Command::Import { from } => match from {
            Import::Csv { file, target, key, keyspace, durability, sorted } => {
                let into = import::Into { keyspace: &keyspace, durability: &durability, sorted };
                import::csv(format, &file, &target, &key, &into)
            }
            Import::Jsonl { file, target, keyspace, durability, sorted } => {
                let into = import::Into { keyspace: &keyspace, durability: &durability, sorted };
                import::jsonl(format, &file, &target, &into)
            }
        },
        Command::Export { to } => match to {
            Export::Csv { target, keyspace, output, hex } => {
                export::csv(&target, &keyspace, &output, hex)
            }
            Export::Jsonl { target, keyspace, output, hex } => {
                export::jsonl(&target, &keyspace, &output, hex)
            }
        },
        Command::Index { command } => index::run(format, command),
        Command::Stats { target } => upkeep::stats(format, &target),
        Command::Inspect { target, count } => upkeep::inspect(format, &target, count),
        Command::Check { target, deep } => upkeep::check(format, &target, deep),
        Command::Compact { target } => upkeep::compact(format, &target),
        Command::RotateKey { target, new } => upkeep::rotate_key(format, &target, &new),
        Command::Flush { target } => upkeep::flush(format, &target),
        Command::ListKeyspaces { target } => upkeep::list_keyspaces(format, &target),
        Command::Bench(args) => bench::run(format, &args),
        #[cfg(unix)]
        Command::Profile(args) => bench::profile(format, &args),
        Command::Completions { shell } => upkeep::completions(shell),
    }
}

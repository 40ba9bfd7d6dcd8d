//! Writes a large value as it comes, reads pieces of it, and prints how long each took. Memory stays at a
//! few pages of 256 KiB, however long the value.
//!
//! `cargo run --release -p lightning_cli --example large_values [MEBIBYTES]`

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an example looks from outside, and measures time"
)]

use std::io::{self, Read, Seek, SeekFrom};
use std::time::Instant;

use lightning_db::Database;

/// Bytes that tell their place, as many as are taken.
struct Film(u64);

impl Read for Film {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = at(self.0);
            self.0 += 1;
        }
        Ok(buffer.len())
    }
}

fn at(place: u64) -> u8 {
    (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mebibytes: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(512);
    let len = mebibytes << 20;
    let rate = |what: &str, started: Instant| {
        let seconds = started.elapsed().as_secs_f64();
        println!("{what}: {seconds:.2} s, {:.0} MiB a second", mebibytes as f64 / seconds);
    };
    let db = Database::create_temp()?;

    let started = Instant::now();
    db.put_reader("film", Film(0), Some(len))?;
    rate("written, as one durable commit", started);

    // A source that fails, or ends too soon, leaves the key as it was.
    let failed = db.put_reader("film", Film(0).take(len / 2), Some(len));
    println!("half of another: {}", failed.expect_err("half of it did not come"));

    let mut reader = db.get_reader("film")?.ok_or("it was just written")?;
    let started = Instant::now();
    let mut piece = [0; 16];
    for n in 0..100 {
        let place = (len - 16) / 100 * n;
        reader.read_at(&mut piece, place)?;
        assert_eq!(piece[0], at(place));
    }
    println!("100 pieces of it: {:.1} ms each", started.elapsed().as_secs_f64() * 10.0);

    // The value stays while it is read, whatever becomes of the key.
    db.delete("film")?;
    db.compact()?;
    reader.seek(SeekFrom::Start(0))?;
    let started = Instant::now();
    let read = io::copy(&mut reader, &mut io::sink())?;
    rate("read, though deleted meanwhile", started);
    assert_eq!(read, len);
    Ok(())
}

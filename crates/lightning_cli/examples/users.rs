//! Users found by email, by city and year, and by tag: secondary indexes over JSON values and over a
//! function. `cargo run --release -p lightning_cli --example users`

use lightning_db::{
    Database, Error, ErrorKind, IndexKey, IndexPart, IndexSpec, KeyspaceOptions, LightningDbConfig,
    Result, VerifyOptions,
};

fn main() -> Result<()> {
    let mut config = LightningDbConfig::default();
    // A function: the domain of the address, which no JSON pointer finds.
    config.extractors.insert("domain", |_key, value| {
        let text = String::from_utf8_lossy(value);
        let domain = text.split_once('@').map(|(_, rest)| rest.split('"').next().unwrap_or(rest));
        domain.map(IndexKey::from).into_iter().collect()
    });
    let db = Database::open_in_memory(config)?;
    let users = db.keyspace("users", KeyspaceOptions::default())?;
    for (id, user) in [
        (
            "1",
            r#"{"name":"Ada","email":"ada@example.org","city":"London","born":1815,"tags":["maths"]}"#,
        ),
        (
            "2",
            r#"{"name":"Grace","email":"grace@example.com","city":"New York","born":1906,"tags":["navy"]}"#,
        ),
        (
            "3",
            r#"{"name":"Alan","email":"alan@example.org","city":"London","born":1912,"tags":["maths","chess"]}"#,
        ),
    ] {
        users.put(id, user)?;
    }

    // Built for the rows that are there, kept up by every commit from then on.
    let by_email = users.create_index("by_email", IndexSpec::json("/email").unique())?;
    let by_city =
        users.create_index("by_city", IndexSpec::parse(&["json:/city", "json:/born"])?)?;
    let by_tag =
        users.create_index("by_tag", IndexSpec::parts([IndexPart::JsonEach("/tags".into())]))?;
    let by_domain = users.create_index("by_domain", IndexSpec::extractor("domain"))?;

    println!("by email: {}", String::from_utf8_lossy(&by_email.get("grace@example.com")?[0].value));
    for row in by_city.range(Some(&("London", 1900).into()), Some(&"New".into()))? {
        let row = row?;
        println!("in London, born since 1900: {}", String::from_utf8_lossy(&row.value));
    }
    println!(
        "mathematicians: {}, at example.org: {}",
        by_tag.count_of("maths")?,
        by_domain.count_of("example.org")?
    );

    // A second user with the same address is refused, and nothing is written.
    let refused = users.put("4", r#"{"name":"Eve","email":"ada@example.org"}"#);
    println!("a second ada@example.org: {:?}", refused.as_ref().map_err(Error::kind));
    assert_eq!(refused.expect_err("taken").kind(), ErrorKind::UniqueViolation);

    // Inside a transaction, own writes included; a snapshot stays as it was.
    let before = db.snapshot()?;
    let mut tx = db.transaction()?;
    tx.put_in(&users, "5", r#"{"name":"Emmy","city":"Erlangen","born":1882,"tags":["maths"]}"#)?;
    println!("with Emmy: {} mathematicians", tx.index_get(&by_tag, "maths")?.len());
    tx.commit()?;
    println!("before her: {}", before.index(&by_tag)?.count_of("maths")?);
    assert!(db.verify(VerifyOptions::default())?.is_clean());
    Ok(())
}

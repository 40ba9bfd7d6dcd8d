//! Gathers figures, and shows them: medians, and ours by the best peer's and by plain memory's.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::engine::Facts;
use crate::engines::{Entry, OURS};
use crate::rows::Row;
use crate::run::Figure;

/// All figures of a run.
pub struct Report {
    pub engines: Vec<Entry>,
    pub rows: Vec<&'static Row>,
    figures: HashMap<(&'static str, &'static str), Vec<Figure>>,
    states: HashMap<&'static str, Vec<String>>,
    failures: Vec<(&'static str, String)>,
    bare_syncs: Vec<f64>,
}

impl Report {
    pub fn new(engines: Vec<Entry>, rows: Vec<&'static Row>) -> Self {
        Self {
            engines,
            rows,
            figures: HashMap::new(),
            states: HashMap::new(),
            failures: Vec::new(),
            bare_syncs: Vec::new(),
        }
    }

    pub fn add(&mut self, engine: &'static str, row: &Row, figure: Figure) {
        self.figures.entry((row.name, engine)).or_default().push(figure);
    }

    pub fn add_state(&mut self, engine: &'static str, state: String) {
        let said = self.states.entry(engine).or_default();
        if !said.contains(&state) {
            said.push(state);
        }
    }

    pub fn add_failure(&mut self, engine: &'static str, failure: String) {
        self.failures.push((engine, failure));
    }

    pub fn add_bare_syncs(&mut self, per_second: f64) {
        self.bare_syncs.push(per_second);
    }

    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The median, plain or merged.
    pub fn median(&self, row: &Row, engine: &str, merged: bool) -> Option<f64> {
        let all = self.figures.get(&(row.name, engine))?.iter();
        median(all.filter_map(|f| if merged { f.merged } else { Some(f.plain) }).collect())
    }

    /// The best of those that are neither ours nor plain memory, and do what the row asks.
    fn best_peer(&self, row: &Row, merged: bool) -> Option<(&'static str, f64)> {
        let peer = |f: &Facts| f.name != OURS && !f.ram && !row.lesser(f);
        let peers = self.engines.iter().map(|e| e.facts).filter(peer);
        let figures = peers.filter_map(|f| Some((f.name, self.median(row, f.name, merged)?)));
        let best = |a: &(_, f64), b: &(_, f64)| a.1.total_cmp(&b.1);
        if row.lower_is_better() { figures.min_by(best) } else { figures.max_by(best) }
    }

    fn ratio(&self, row: &Row, merged: bool, by: Option<f64>) -> Option<f64> {
        Some(self.median(row, OURS, merged)? / by?)
    }

    pub fn text(&self) -> String {
        let mut table = vec![self.head()];
        for row in &self.rows {
            table.push(self.line(row, false));
            if self.engines.iter().any(|e| self.median(row, e.facts.name, true).is_some()) {
                table.push(self.line(row, true));
            }
        }
        let mut lines = aligned(&table);
        lines.push(String::new());
        if let Some(bare) = median(self.bare_syncs.clone()) {
            lines.push(format!("a bare loop of write and fdatasync: {}/s", short(bare)));
        }
        lines.push(
            "~ less than the row asks (no snapshots; no sync of the device): no peer's figure"
                .to_owned(),
        );
        lines.push(String::new());
        for engine in &self.engines {
            lines.push(format!("{}: {}", engine.facts.name, engine.facts.about));
            for (group, promise) in engine.facts.promises {
                lines.push(format!("    {group}: {promise}"));
            }
            for state in self.states.get(engine.facts.name).into_iter().flatten() {
                lines.push(format!("    {state}"));
            }
        }
        lines.extend(self.failures.iter().map(|(engine, why)| format!("FAILED: {engine}: {why}")));
        lines.join("\n") + "\n"
    }

    fn head(&self) -> Vec<String> {
        let names = self.engines.iter().map(|e| e.facts.name.to_owned());
        let last = [
            "best peer",
            "ours / best (bold: reached)",
            "aim",
            "ours / ram-tree",
            "ours / ram-hash",
        ];
        std::iter::once("row".to_owned()).chain(names).chain(last.map(str::to_owned)).collect()
    }

    fn line(&self, row: &Row, merged: bool) -> Vec<String> {
        let about = match (merged, row.lower_is_better()) {
            (true, _) => format!("{}: until merged", row.name),
            (_, true) => format!("{} ({}, lower is better)", row.about, row.unit()),
            (_, false) => row.about.to_owned(),
        };
        let mut line = vec![about];
        for Entry { facts, .. } in &self.engines {
            let mark = if row.lesser(facts) { "~" } else { "" };
            let figure = self.median(row, facts.name, merged);
            line.push(figure.map_or_else(String::new, |f| mark.to_owned() + &short(f)));
        }
        let best = self.best_peer(row, merged);
        let ratio =
            |by| self.ratio(row, merged, by).map_or_else(String::new, |r| format!("{r:.2}"));
        line.push(best.map_or_else(String::new, |(name, _)| name.to_owned()));
        let ours = self.median(row, OURS, merged);
        let reached = ours.zip(best).filter(|_| !merged);
        let bare = median(self.bare_syncs.clone());
        line.push(match reached.map(|(ours, (_, best))| row.is_reached(ours, ours / best, bare)) {
            Some(true) => format!("**{}**", ratio(best.map(|(_, figure)| figure))),
            _ => ratio(best.map(|(_, figure)| figure)),
        });
        line.push(if merged { String::new() } else { row.aim_shown() });
        for ram in ["ram-tree", "ram-hash"] {
            line.push(ratio(self.median(row, ram, false)));
        }
        line
    }

    pub fn json(&self, about: Value) -> Value {
        let engines = self.engines.iter().map(|e| {
            json!({
                "name": e.facts.name,
                "about": e.facts.about,
                "promises": e.facts.promises.iter()
                    .map(|(group, promise)| json!({"work": group, "promise": promise}))
                    .collect::<Vec<_>>(),
                "state": self.states.get(e.facts.name),
            })
        });
        let rows = self.rows.iter().map(|row| {
            let figures = self.engines.iter().filter_map(|e| {
                let all = self.figures.get(&(row.name, e.facts.name))?;
                let figure = json!({
                    "median": self.median(row, e.facts.name, false),
                    "median_until_merged": self.median(row, e.facts.name, true),
                    "all": all.iter().map(|f| f.plain).collect::<Vec<_>>(),
                    "lesser": row.lesser(&e.facts),
                });
                Some((e.facts.name.to_owned(), figure))
            });
            let best = self.best_peer(row, false);
            json!({
                "row": row.name,
                "about": row.about,
                "work": row.group,
                "unit": row.unit(),
                "lower_is_better": row.lower_is_better(),
                "figures": figures.collect::<serde_json::Map<_, _>>(),
                "best_peer": best.map(|(name, _)| name),
                "ours_by_best_peer": self.ratio(row, false, best.map(|(_, figure)| figure)),
                "aim": row.aim_shown(),
                "ours_by_ram_tree": self.ratio(row, false, self.median(row, "ram-tree", false)),
                "ours_by_ram_hash": self.ratio(row, false, self.median(row, "ram-hash", false)),
            })
        });
        json!({
            "about": about,
            "engines": engines.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "bare_syncs_per_second": median(self.bare_syncs.clone()),
            "failures": self.failures.iter()
                .map(|(engine, failure)| json!({"engine": engine, "failure": failure}))
                .collect::<Vec<_>>(),
        })
    }
}

/// Three figures: `588k`, `1.50M`, `37.0`.
pub fn short(figure: f64) -> String {
    let (scaled, unit) = match figure {
        f if f >= 1e6 => (f / 1e6, "M"),
        f if f >= 1e4 => (f / 1e3, "k"),
        f => (f, ""),
    };
    let digits = match scaled {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{unit}")
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    let upper = *figures.get(half)?;
    Some(if figures.len() % 2 == 1 { upper } else { f64::midpoint(figures[half - 1], upper) })
}

/// The lines of a table in Markdown, its columns one below the other.
fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns)
        .map(|c| table.iter().map(|line| line[c].chars().count()).max().unwrap_or(0).max(3))
        .collect();
    let cell = |(column, (cell, &width)): (usize, (&String, &usize))| match column {
        0 => format!("| {cell:<width$} |"),
        _ => format!(" {cell:>width$} |"),
    };
    let rule = |(column, width): (usize, &usize)| match column {
        0 => format!("|{}|", "-".repeat(width + 2)),
        _ => format!("{}:|", "-".repeat(width + 1)),
    };
    let mut lines: Vec<String> =
        table.iter().map(|line| line.iter().zip(&widths).enumerate().map(cell).collect()).collect();
    lines.insert(1.min(lines.len()), widths.iter().enumerate().map(rule).collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_short_figures() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        for (figure, text) in [
            (588_123.0, "588k"),
            (1.5e6, "1.50M"),
            (37.04, "37.0"),
            (4500.0, "4500"),
            (3.9, "3.90"),
        ] {
            assert_eq!(short(figure), text);
        }
    }
}

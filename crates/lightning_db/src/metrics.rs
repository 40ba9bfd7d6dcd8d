//! What an open database tells of itself, under names for monitoring systems: the figures of
//! [`DatabaseStats`], each with a name, a help text and a type, and as text for Prometheus.
//!
//! Every figure is one of the statistics, or follows from them: nothing is counted twice.

use std::fmt::Write;

use crate::stats::{DatabaseStats, HealthStatus, IndexStats};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up, from 0 at each opening.
    Counter,
    /// Up and down.
    Gauge,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name, after Prometheus' rules; counters end in `_total`, times are in seconds.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// Its values: one, or one for each value of a label.
    pub values: Vec<MetricValue>,
}

/// A value of a [`Metric`].
#[derive(Debug, Clone, PartialEq)]
pub struct MetricValue {
    /// Name and value of its label, where the metric has one.
    pub label: Option<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// All metrics at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsSnapshot {
    /// In a fixed order.
    pub metrics: Vec<Metric>,
}

impl MetricsSnapshot {
    pub(crate) fn new(s: &DatabaseStats, health: &HealthStatus) -> Self {
        let mut out = Self { metrics: Vec::new() };
        out.transactions(s);
        out.caches(s);
        out.storage(s);
        out.work(s);
        out.gauge("lightning_db_up", "1 while the database is open.", 1.0);
        let healthy = f64::from(u8::from(health.healthy));
        out.gauge("lightning_db_healthy", "1 while health_check finds no problem.", healthy);
        out
    }

    fn transactions(&mut self, s: &DatabaseStats) {
        self.count("lightning_db_commits_total", "Commits.", s.commits);
        let active = s.transactions_active as f64;
        self.gauge("lightning_db_transactions_active", "Transactions not finished.", active);
        self.count(
            "lightning_db_transactions_committed_total",
            "Transactions committed.",
            s.transactions_committed,
        );
        self.count(
            "lightning_db_transactions_aborted_total",
            "Transactions aborted, conflicts included.",
            s.transactions_aborted,
        );
        self.count(
            "lightning_db_transactions_conflicts_total",
            "Transactions refused because another committed first.",
            s.conflicts,
        );
        self.count("lightning_db_lock_waits_total", "Locks waited for.", s.lock_waits);
        self.time("lightning_db_lock_wait_seconds_total", "Waiting for locks.", s.lock_wait_time);
        self.count(
            "lightning_db_lock_timeouts_total",
            "Waits that took too long.",
            s.lock_timeouts,
        );
        self.count("lightning_db_deadlocks_total", "Waits that closed a cycle.", s.deadlocks);
        let waiters = s.lock_waiters as f64;
        self.gauge("lightning_db_lock_waiters", "Who waits for a lock now.", waiters);
        let age = s.oldest_view.as_secs_f64();
        self.gauge("lightning_db_oldest_snapshot_seconds", "Age of the oldest view.", age);
    }

    fn caches(&mut self, s: &DatabaseStats) {
        self.count("lightning_db_cache_hits_total", "Pages found in the cache.", s.cache_hits);
        self.count("lightning_db_cache_misses_total", "Pages not found there.", s.cache_misses);
        self.count(
            "lightning_db_cache_evictions_total",
            "Pages pushed out of the cache.",
            s.cache_evictions,
        );
        self.count(
            "lightning_db_row_cache_hits_total",
            "Gets answered by the row cache.",
            s.row_cache_hits,
        );
        let of_rows = s.keyspaces.iter().map(|k| k.memtable_bytes).sum::<u64>();
        let memtables = of_rows + s.indexes.iter().map(|i| i.memtable_bytes).sum::<u64>();
        self.gauges(
            "lightning_db_memory_bytes",
            "Memory held, by part.",
            "part",
            &[
                ("pages", s.cache_bytes),
                ("rows", s.row_cache_bytes),
                ("memtables", memtables),
                ("spare memtables", s.spare_memtable_bytes),
            ],
        );
    }

    fn storage(&mut self, s: &DatabaseStats) {
        let bytes = s.storage_bytes as f64;
        self.gauge("lightning_db_storage_bytes", "Segment files, large values included.", bytes);
        let raw: u64 = s.keyspaces.iter().map(|k| k.raw_bytes).sum();
        let live: u64 = s.keyspaces.iter().map(|k| k.file_bytes - k.dead_bytes).sum();
        let ratio = if live == 0 { 1.0 } else { raw as f64 / live as f64 };
        self.gauge(
            "lightning_db_compression_ratio",
            "Bytes of keys and values for each stored byte, large values aside.",
            ratio,
        );
        let packed = s.pages_tried - s.pages_plain;
        let pages = [("packed", packed), ("plain", s.pages_plain), ("skipped", s.pages_skipped)];
        self.counts(
            "lightning_db_pages_written_total",
            "Pages that were to be packed: smaller for it, or not, or not tried.",
            "packing",
            &pages,
        );
        let indexes = |figure: fn(&IndexStats) -> u64| -> Vec<(String, u64)> {
            s.indexes.iter().map(|i| (format!("{}/{}", i.keyspace, i.name), figure(i))).collect()
        };
        self.gauges(
            "lightning_db_index_entries",
            "Entries of indexes, deleted ones that were not merged yet included.",
            "index",
            &indexes(|i| i.entries),
        );
        self.gauges(
            "lightning_db_index_bytes",
            "Segment files of indexes.",
            "index",
            &indexes(|i| i.file_bytes),
        );
        self.gauge("lightning_db_wal_bytes", "Log files still needed.", s.log_bytes as f64);
        self.count("lightning_db_wal_syncs_total", "Fsyncs of the log.", s.log_syncs);
        self.time("lightning_db_wal_sync_seconds_total", "Fsyncs of the log.", s.log_sync_time);
        self.count("lightning_db_wal_written_bytes_total", "Written to it.", s.log_bytes_written);
    }

    fn work(&mut self, s: &DatabaseStats) {
        self.count("lightning_db_flushes_total", "Memtables flushed.", s.flushes);
        let merges = s.tier_merges + s.base_merges + s.adopted_partitions;
        self.count("lightning_db_compactions_total", "Merges of all kinds.", merges);
        self.time("lightning_db_compaction_seconds_total", "Time spent merging.", s.merge_time);
        self.count("lightning_db_compaction_bytes_total", "Written by merges.", s.merged_bytes);
        self.count("lightning_db_folded_operands_total", "Operands folded.", s.folded_operands);
        self.count("lightning_db_failed_folds_total", "Operators that failed.", s.failed_folds);
        self.time("lightning_db_write_stall_seconds_total", "Writers were slowed.", s.stall_time);
    }

    fn push(&mut self, name: &'static str, help: &'static str, kind: MetricKind, value: f64) {
        let values = vec![MetricValue { label: None, value }];
        self.metrics.push(Metric { name, help, kind, values });
    }

    fn count(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.push(name, help, MetricKind::Counter, value as f64);
    }

    fn time(&mut self, name: &'static str, help: &'static str, value: std::time::Duration) {
        self.push(name, help, MetricKind::Counter, value.as_secs_f64());
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.push(name, help, MetricKind::Gauge, value);
    }

    fn gauges<T: AsRef<str>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[(T, u64)],
    ) {
        self.labelled(name, help, label, MetricKind::Gauge, values);
    }

    fn counts<T: AsRef<str>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[(T, u64)],
    ) {
        self.labelled(name, help, label, MetricKind::Counter, values);
    }

    fn labelled<T: AsRef<str>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        kind: MetricKind,
        values: &[(T, u64)],
    ) {
        let value = |(of, value): &(T, u64)| MetricValue {
            label: Some((label, of.as_ref().to_owned())),
            value: *value as f64,
        };
        let values = values.iter().map(value).collect();
        self.metrics.push(Metric { name, help, kind, values });
    }

    /// The metric of that name.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// The text that Prometheus reads.
    ///
    /// ```
    /// # use lightning_db::{Database, LightningDbConfig};
    /// let db = Database::open_in_memory(LightningDbConfig::default())?;
    /// db.put(b"key", b"value")?;
    /// let text = db.get_metrics().to_prometheus();
    /// assert!(text.contains("# TYPE lightning_db_commits_total counter\nlightning_db_commits_total 1\n"));
    /// # Ok::<(), lightning_db::Error>(())
    /// ```
    pub fn to_prometheus(&self) -> String {
        let mut out = String::new();
        for metric in &self.metrics {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let name = metric.name;
            // Writing to a string does not fail.
            let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help);
            for value in &metric.values {
                let _ = match &value.label {
                    None => writeln!(out, "{name} {}", value.value),
                    Some((label, of)) => {
                        let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                        writeln!(out, "{name}{{{label}=\"{of}\"}} {}", value.value)
                    }
                };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, LightningDbConfig};

    #[test]
    fn metrics_are_well_formed_and_say_what_the_statistics_say() {
        let config = LightningDbConfig { background_threads: 0, ..LightningDbConfig::default() };
        let db = Database::open_in_memory(config).unwrap();
        for n in 0..1000_u32 {
            db.put(n.to_be_bytes(), [7; 100]).unwrap();
        }
        let by_value = crate::IndexSpec::parts([crate::IndexPart::value()]);
        db.create_index("by \"all\"", by_value).unwrap();
        db.flush().unwrap();
        for _ in 0..3 {
            db.get(5_u32.to_be_bytes()).unwrap();
        }
        let mut tx = db.transaction().unwrap();
        tx.put(b"key", b"value").unwrap();
        let metrics = db.get_metrics();
        drop(tx);
        let one = |name: &str| metrics.get(name).unwrap().values[0].value as u64;
        let stats = db.stats();
        assert_eq!(one("lightning_db_commits_total"), stats.commits);
        assert_eq!(one("lightning_db_transactions_active"), 1);
        assert_eq!(one("lightning_db_storage_bytes"), stats.storage_bytes);
        assert_eq!(one("lightning_db_row_cache_hits_total"), 2);
        assert!(one("lightning_db_compression_ratio") > 2);
        assert!(one("lightning_db_pages_written_total") > 20);
        assert_eq!((stats.pages_plain, stats.pages_skipped), (0, 0));
        assert_eq!((one("lightning_db_up"), one("lightning_db_healthy")), (1, 1));
        let aborted = db.stats().transactions_aborted;
        assert_eq!(aborted, 1);
        let text = metrics.to_prometheus();
        assert!(
            text.contains("lightning_db_index_entries{index=\"default/by \\\"all\\\"\"} 100"),
            "{text}"
        );
        let mut names = std::collections::BTreeSet::new();
        for metric in &metrics.metrics {
            assert!(names.insert(metric.name), "{} twice", metric.name);
            assert!(metric.name.starts_with("lightning_db_") && metric.help.ends_with('.'));
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter);
        }
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(names.contains(name.split('{').next().unwrap()), "{line}");
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
        }
    }
}

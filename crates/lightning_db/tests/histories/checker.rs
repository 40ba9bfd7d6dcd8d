//! Judges a history of transactions that append to lists and read them (after Kingsbury and Alvaro,
//! "Elle", VLDB 2020). A list tells the order of its writes, so that what each transaction depends
//! on can be read off:
//!
//! - ww: who appended the element before; wr: who appended the last element read; rw: who read a
//!   list and who appended its next element; real time: who was done before another began.
//! - `Serializable`: no cycle of any of these.
//! - Snapshot isolation: each transaction is two events, its snapshot and its commit; ww, wr and real
//!   time go from commit to snapshot, rw from snapshot to commit; no cycle. (Write skew passes.)
//!
//! Besides: every list read is a beginning of the longest one; nothing that was aborted is ever
//! read; nothing acknowledged is missing at the end; a transaction sees its own appends.

use std::collections::HashMap;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Committed,
    Aborted,
    /// The machine went down: it may have committed.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Append(u64, u64),
    Read(u64, Vec<u64>),
}

/// One transaction: when it began and ended on a common counter, and what it did.
#[derive(Debug, Clone)]
pub struct Record {
    pub began: u64,
    pub ended: u64,
    pub end: End,
    pub ops: Vec<Op>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Snapshot,
    Serializable,
}

/// The graph: nodes are events of transactions and points of time.
struct Graph {
    edges: Vec<Vec<u32>>,
}

impl Graph {
    fn add(&mut self, from: usize, to: usize) {
        if from != to {
            self.edges[from].push(to as u32);
        }
    }

    /// The nodes of some cycle, if there is one: what has no incoming edge left is peeled off, and a
    /// cycle is among the rest.
    fn cycle(&self) -> Vec<usize> {
        let mut incoming = vec![0_u32; self.edges.len()];
        for to in self.edges.iter().flatten() {
            incoming[*to as usize] += 1;
        }
        let mut free: Vec<usize> = (0..incoming.len()).filter(|n| incoming[*n] == 0).collect();
        let mut left = incoming.len();
        while let Some(node) = free.pop() {
            left -= 1;
            for to in &self.edges[node] {
                incoming[*to as usize] -= 1;
                if incoming[*to as usize] == 0 {
                    free.push(*to as usize);
                }
            }
        }
        if left == 0 {
            return Vec::new();
        }
        // Walk backwards among the rest until a node comes again.
        let mut before = vec![usize::MAX; incoming.len()];
        for (from, tos) in self.edges.iter().enumerate().filter(|(n, _)| incoming[*n] > 0) {
            for to in tos {
                before[*to as usize] = from;
            }
        }
        let mut at = (0..incoming.len()).find(|n| incoming[*n] > 0).expect("some are left");
        let mut seen = HashMap::new();
        let mut path = Vec::new();
        while !seen.contains_key(&at) {
            seen.insert(at, path.len());
            path.push(at);
            at = before[at];
        }
        path.split_off(seen[&at])
    }
}

/// What is wrong with a history, if anything.
pub fn check(
    history: &[Record],
    last: &HashMap<u64, Vec<u64>>,
    promise: Promise,
) -> Result<(), String> {
    let mut writer: HashMap<u64, usize> = HashMap::new();
    for (i, record) in history.iter().enumerate() {
        for op in &record.ops {
            if let Op::Append(_, value) = op {
                writer.insert(*value, i);
            }
        }
    }
    // The order of each list is the one at the end.
    for (i, record) in history.iter().enumerate() {
        let mut own: HashMap<u64, Vec<u64>> = HashMap::new();
        for op in &record.ops {
            match op {
                Op::Append(key, value) => own.entry(*key).or_default().push(*value),
                Op::Read(key, list) if record.end == End::Committed => {
                    let mine = own.get(key).map_or(&[][..], Vec::as_slice);
                    let whole = last.get(key).map_or(&[][..], Vec::as_slice);
                    if !list.ends_with(mine) {
                        return Err(format!(
                            "transaction {i} does not see its own appends to {key}"
                        ));
                    }
                    if !whole.starts_with(list) {
                        return Err(format!(
                            "transaction {i} read {list:?} of {key}, which became {whole:?}"
                        ));
                    }
                }
                Op::Read(..) => {}
            }
        }
    }
    let mut present = vec![false; history.len()];
    for (key, list) in last {
        for value in list {
            let Some(by) = writer.get(value) else {
                return Err(format!("{key} has an invented {value}"));
            };
            if history[*by].end == End::Aborted {
                return Err(format!("{key} has {value} of aborted transaction {by}"));
            }
            present[*by] = true;
        }
    }
    for (i, record) in history.iter().enumerate() {
        let appends = record.ops.iter().filter_map(|op| match op {
            Op::Append(key, value) => Some((key, value)),
            Op::Read(..) => None,
        });
        for (key, value) in appends {
            let there = last.get(key).is_some_and(|l| l.contains(value));
            if record.end == End::Committed && !there {
                return Err(format!("{value} of committed transaction {i} is not in {key}"));
            }
            if present[i] && !there {
                return Err(format!("transaction {i} is there in part: {value} is not in {key}"));
            }
        }
    }
    let graph = graph(history, last, &writer, &present, promise);
    let cycle = graph.cycle();
    if cycle.is_empty() {
        return Ok(());
    }
    let per = 2;
    let named: Vec<String> = cycle
        .iter()
        .filter(|n| **n < history.len() * per)
        .map(|n| format!("{} {:?}", n / per, history[n / per]))
        .collect();
    Err(format!("a cycle: {}", named.join("\n")))
}

fn graph(
    history: &[Record],
    last: &HashMap<u64, Vec<u64>>,
    writer: &HashMap<u64, usize>,
    present: &[bool],
    promise: Promise,
) -> Graph {
    let counts = |i: usize| history[i].end == End::Committed || present[i];
    // Two events each: snapshot and commit; the same event where transactions are one.
    let snapshot = |i: usize| 2 * i;
    let commit = |i: usize| if promise == Promise::Snapshot { 2 * i + 1 } else { 2 * i };
    let times = history.iter().map(|r| r.ended.max(r.began)).max().unwrap_or(0) as usize + 2;
    let time = |t: u64| 2 * history.len() + t as usize;
    let mut graph = Graph { edges: vec![Vec::new(); 2 * history.len() + times] };
    for t in 1..times {
        graph.add(time(t as u64 - 1), time(t as u64));
    }
    for (i, record) in history.iter().enumerate().filter(|(i, _)| counts(*i)) {
        graph.add(snapshot(i), commit(i));
        if record.began > 0 {
            graph.add(time(record.began - 1), snapshot(i));
        }
        // Who never learned of its commit has no end in time.
        if record.end == End::Committed {
            graph.add(commit(i), time(record.ended));
        }
        let mut own: Vec<u64> = Vec::new();
        for op in &record.ops {
            match op {
                Op::Append(key, _) => own.push(*key),
                // What it reads of a list after its own appends says nothing new.
                Op::Read(key, _) if own.contains(key) => {}
                Op::Read(key, list) if record.end == End::Committed => {
                    if let Some(by) = list.last().and_then(|v| writer.get(v)) {
                        graph.add(commit(*by), snapshot(i));
                    }
                    let next = last.get(key).and_then(|l| l.get(list.len()));
                    if let Some(by) = next.and_then(|v| writer.get(v)).filter(|by| **by != i) {
                        graph.add(snapshot(i), commit(*by));
                    }
                }
                Op::Read(..) => {}
            }
        }
    }
    for list in last.values() {
        for pair in list.windows(2) {
            let (a, b) = (writer[&pair[0]], writer[&pair[1]]);
            if a != b {
                graph.add(commit(a), snapshot(b));
            }
        }
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(began: u64, ended: u64, end: End, ops: &[Op]) -> Record {
        Record { began, ended, end, ops: ops.to_vec() }
    }

    fn judge(history: &[Record], last: &[(u64, &[u64])], promise: Promise) -> bool {
        let last = last.iter().map(|(k, l)| (*k, l.to_vec())).collect();
        check(history, &last, promise).is_ok()
    }

    use End::{Aborted, Committed, Unknown};
    use Op::{Append, Read};
    use Promise::{Serializable, Snapshot};

    #[test]
    fn known_anomalies_are_told_apart() {
        // Write skew: each reads what the other appends to.
        let skew = [
            record(0, 2, Committed, &[Read(1, vec![]), Read(2, vec![]), Append(1, 10)]),
            record(1, 3, Committed, &[Read(1, vec![]), Read(2, vec![]), Append(2, 20)]),
        ];
        let last: &[(u64, &[u64])] = &[(1, &[10]), (2, &[20])];
        assert!(judge(&skew, last, Snapshot) && !judge(&skew, last, Serializable));
        // Lost update: both append to the empty list, and the second one's view wins.
        let lost = [
            record(0, 2, Committed, &[Read(1, vec![]), Append(1, 10)]),
            record(1, 3, Committed, &[Read(1, vec![]), Append(1, 11)]),
        ];
        assert!(!judge(&lost, &[(1, &[11])], Snapshot));
        // Both there, but the second did not see the first: first committer did not win.
        assert!(!judge(&lost, &[(1, &[10, 11])], Snapshot));
        // Read skew.
        let skewed = [
            record(0, 5, Committed, &[Read(1, vec![]), Read(2, vec![20])]),
            record(1, 3, Committed, &[Append(1, 10), Append(2, 20)]),
        ];
        assert!(!judge(&skewed, last, Snapshot));
        // A stale read: the write was done before the read began.
        let stale = [
            record(0, 1, Committed, &[Append(1, 10)]),
            record(2, 3, Committed, &[Read(1, vec![])]),
        ];
        assert!(!judge(&stale, &[(1, &[10])], Snapshot));
        // A dirty read, a part of a transaction, an invented value.
        let aborted = [record(0, 1, Aborted, &[Append(1, 10)])];
        assert!(!judge(&aborted, &[(1, &[10])], Snapshot) && judge(&aborted, &[], Snapshot));
        let part = [record(0, 1, Unknown, &[Append(1, 10), Append(2, 20)])];
        assert!(!judge(&part, &[(1, &[10])], Snapshot));
        assert!(judge(&part, last, Serializable) && judge(&part, &[], Serializable));
        assert!(!judge(&part, &[(1, &[99])], Snapshot));
        // A lost commit, an own append not seen, an order that changed.
        assert!(!judge(&[record(0, 1, Committed, &[Append(1, 10)])], &[], Snapshot));
        let blind = [record(0, 1, Committed, &[Append(1, 10), Read(1, vec![])])];
        assert!(!judge(&blind, &[(1, &[10])], Snapshot));
        let order = [
            record(0, 1, Committed, &[Append(1, 10), Append(1, 11)]),
            record(2, 3, Committed, &[Read(1, vec![11])]),
        ];
        assert!(!judge(&order, &[(1, &[10, 11])], Snapshot));
    }
}

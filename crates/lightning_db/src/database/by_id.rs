//! Transactions named by ids, for bindings and servers: the handle keeps them until they are finished.
//!
//! Calls of one transaction wait for each other; those of others do not.

use std::sync::Arc;

use super::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;
use crate::transaction::{IsolationLevel, Transaction, TransactionId, TransactionOptions};

impl Database {
    /// Begins a transaction that is named by an id, for bindings and servers.
    pub fn begin_transaction(&self) -> Result<TransactionId> {
        self.begin_transaction_with_options(TransactionOptions::default())
    }

    /// Begins a transaction with options that is named by an id.
    pub fn begin_transaction_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<TransactionId> {
        let handle = self.handle();
        let tx = Transaction::begin(&handle.core, None, options)?;
        let id = tx.id();
        handle.transactions.lock().insert(id.0, Arc::new(Mutex::new(Some(tx))));
        Ok(id)
    }

    /// Begins a transaction at an isolation level that is named by an id.
    pub fn begin_transaction_with_isolation(&self, level: IsolationLevel) -> Result<TransactionId> {
        self.begin_transaction_with_options(TransactionOptions::at(level))
    }

    pub(super) fn with_tx<R>(
        &self,
        id: TransactionId,
        call: impl FnOnce(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        let slot = self.handle().transactions.lock().get(&id.0).cloned();
        let slot = slot.ok_or_else(|| unknown(id))?;
        let mut tx = slot.lock();
        call(tx.as_mut().ok_or_else(|| unknown(id))?)
    }

    fn take_tx(&self, id: TransactionId) -> Result<Transaction> {
        let slot = self.handle().transactions.lock().remove(&id.0);
        slot.and_then(|s| s.lock().take()).ok_or_else(|| unknown(id))
    }

    /// [`Transaction::get`] by id.
    pub fn get_tx(&self, id: TransactionId, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.with_tx(id, |tx| tx.get(key))
    }

    /// [`Transaction::put`] by id.
    pub fn put_tx(
        &self,
        id: TransactionId,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.with_tx(id, |tx| tx.put(key, value))
    }

    /// [`Transaction::delete`] by id.
    pub fn delete_tx(&self, id: TransactionId, key: impl AsRef<[u8]>) -> Result<()> {
        self.with_tx(id, |tx| tx.delete(key))
    }

    /// [`Transaction::delete_range`] by id.
    pub fn delete_range_tx(
        &self,
        id: TransactionId,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<()> {
        self.with_tx(id, |tx| tx.delete_range(start, end))
    }

    /// [`Transaction::merge`] by id.
    pub fn merge_tx(
        &self,
        id: TransactionId,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.with_tx(id, |tx| tx.merge(key, operand))
    }

    /// [`Transaction::get_for_update`] by id.
    pub fn get_for_update_tx(
        &self,
        id: TransactionId,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        self.with_tx(id, |tx| tx.get_for_update(key))
    }

    /// [`Transaction::range`] by id.
    pub fn scan_tx(
        &self,
        id: TransactionId,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<crate::TransactionRange> {
        self.with_tx(id, |tx| tx.range(start, end))
    }

    /// [`Transaction::commit`] by id. The id is finished, whatever the outcome.
    pub fn commit_transaction(&self, id: TransactionId) -> Result<()> {
        self.take_tx(id)?.commit()
    }

    /// [`Transaction::abort`] by id.
    pub fn abort_transaction(&self, id: TransactionId) -> Result<()> {
        self.take_tx(id)?.abort();
        Ok(())
    }
}

fn unknown(id: TransactionId) -> Error {
    Error::new(
        ErrorKind::UnknownTransaction,
        format!("transaction {id} was never begun, or is finished"),
    )
}

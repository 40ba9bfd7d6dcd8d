//! An opened page, and what a parent remembers of its children.
//!
//! 1. A page's bytes never change. What changes is only the mark that it was used, and its slots.
//! 2. A slot holds a weak reference: it finds the page as long as anybody, the cache first of all,
//!    keeps it, and keeps nothing in memory itself but the few bytes of a page's head.
//! 3. What a slot gives is the page at the address that stands beside the slot's place in the parent:
//!    only [`Pager`](super::Pager) fills slots, with what it fetched by that address.
//!
//! Threads: any. A slot's latch is only ever tried: whoever finds it taken asks the cache instead.

use std::fmt;
use std::sync::OnceLock;

use crate::page::PageType;
use crate::prefetch;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, Weak};

/// Of longer pages, only so many bytes are asked for ahead.
const PREFETCHED_BYTES: usize = 4096 + 256;

/// An opened page: checked, decompressed, valid for its type.
pub struct Page {
    /// What the bytes are.
    pub ty: PageType,
    /// The payload, as it is searched.
    pub bytes: Vec<u8>,
    /// Used since the cache's clock looked last.
    referenced: AtomicBool,
    /// One for each child, where this is an inner page that has led to any.
    slots: OnceLock<Box<[PageSlot]>>,
}

/// A page shared by the cache and its readers; it lives as long as any of them holds it.
pub type PageRef = Arc<Page>;

impl Page {
    /// An opened page.
    pub fn new(ty: PageType, bytes: Vec<u8>) -> Self {
        Self { ty, bytes, referenced: AtomicBool::new(false), slots: OnceLock::new() }
    }

    /// Notes that it was used.
    #[inline]
    pub fn mark_referenced(&self) {
        // Looked at first: a bit that is set already costs other processors nothing.
        if !self.is_referenced() {
            self.set_referenced(true);
        }
    }

    /// Whether it was used since that was last cleared.
    #[inline]
    pub fn is_referenced(&self) -> bool {
        self.referenced.load(Ordering::Relaxed)
    }

    /// Sets or clears the mark.
    pub fn set_referenced(&self, referenced: bool) {
        self.referenced.store(referenced, Ordering::Relaxed);
    }

    /// The slot of child `i`; `children` says how many there are.
    #[inline]
    pub fn slot(&self, i: usize, children: impl FnOnce() -> usize) -> Option<&PageSlot> {
        self.slots.get_or_init(|| slots(children())).get(i)
    }

    /// Asks the processor for the payload.
    #[inline]
    pub fn prefetch(&self) {
        let lines = self.bytes.len().min(PREFETCHED_BYTES).div_ceil(prefetch::LINE_BYTES);
        prefetch::lines(self.bytes.as_ptr(), lines);
    }
}

impl fmt::Debug for Page {
    /// Without the bytes: they are the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("ty", &self.ty)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Where the opened page of one address is found again, while it is in memory.
#[derive(Default)]
pub struct PageSlot(Mutex<Weak<Page>>);

/// So many empty slots.
pub fn slots(n: usize) -> Box<[PageSlot]> {
    (0..n).map(|_| PageSlot::default()).collect()
}

impl PageSlot {
    /// The page, if somebody keeps it and the slot is free to be looked at.
    #[inline]
    pub fn get(&self) -> Option<PageRef> {
        self.0.try_lock()?.upgrade()
    }

    /// Remembers a page.
    pub fn set(&self, page: &PageRef) {
        if let Some(mut slot) = self.0.try_lock() {
            *slot = Arc::downgrade(page);
        }
    }

    /// Asks the processor for the head of the page, if there is one.
    #[inline]
    pub fn prefetch(&self) {
        if let Some(slot) = self.0.try_lock() {
            prefetch::lines(slot.as_ptr().cast(), 1);
        }
    }
}

impl fmt::Debug for PageSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageSlot").field(&self.get().is_some()).finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_finds_its_page_while_somebody_keeps_it() {
        let slot = PageSlot::default();
        assert!(slot.get().is_none());
        let page = Arc::new(Page::new(PageType::Leaf, vec![1]));
        slot.set(&page);
        assert!(Arc::ptr_eq(&slot.get().unwrap(), &page));
        slot.prefetch();
        drop(page);
        assert!(slot.get().is_none(), "a slot keeps no page");
        slot.prefetch();
    }

    #[test]
    fn a_page_has_as_many_slots_as_it_was_said_first() {
        let page = Page::new(PageType::Inner, vec![1]);
        assert!(page.slot(1, || 2).is_some());
        assert!(page.slot(2, || unreachable!("made once")).is_none());
    }
}

//! (being built)
pub mod view;

//! Displays: what a run's events look like on a terminal, as JSON lines, and in files.

pub mod files;
pub mod github;
pub mod json;
pub mod junit;
pub mod kinds;
pub mod markdown;
pub mod output;
pub mod page;
pub mod progress;
pub mod record;
pub mod taps;
pub mod terminal;
pub mod words;

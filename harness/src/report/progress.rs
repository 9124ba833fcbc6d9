//! A bar with an estimate on standard error, on a terminal only.

use std::io::{self, IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{Display, Event};

/// Shows how many tokens have been run.
pub struct ProgressDisplay {
    bar: ProgressBar,
}

impl ProgressDisplay {
    /// A bar, hidden where standard error is no terminal.
    pub fn new(quiet: bool) -> Self {
        let shown = stderr().is_terminal() && !quiet;
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{bar:30} {pos}/{len} tokens, {elapsed} of about {duration}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        Self { bar }
    }

    /// The bar, for those who print lines above it.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }
}

impl Display for ProgressDisplay {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Started(_) => self.bar.enable_steady_tick(Duration::from_millis(200)),
            Event::Progress(progress) => {
                self.bar.set_length(progress.total_tokens.max(progress.done_tokens) as u64);
                self.bar.set_position(progress.done_tokens as u64);
            }
            Event::Finished(_) => self.bar.finish_and_clear(),
            Event::Step(_) | Event::Chunking(_) => {}
        }
        Ok(())
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

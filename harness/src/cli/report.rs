//! `lockstep report`: the page of a folder once more, from its files alone.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::{EXIT_CODES, Failure};
use crate::report::files::{Folder, REPORT, write_report};
use crate::report::output::Output;
use crate::report::page::PageError;

const EXAMPLES: &str = "\
Examples:
  lockstep report out

A run, a search and a suite with --out write the page themselves. This makes it anew from the
files, also of a run that was killed: its page says that there is no verdict, and shows the steps
that were compared. A faults.json there, from `lockstep faults --format json`, becomes a table.
Exit code 0: the page is written, whatever it says; 2: the folder holds no run.";

/// Write report.html again from the files of a folder that --out named
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct ReportCommand {
    /// The folder of a run, a search or a suite
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ReportCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        if !self.folder.is_dir() {
            let path = self.folder.display();
            return Err(Failure::input(format!("there is no folder {path}"))
                .hint("give the folder that --out named"));
        }
        let folder = Folder::prepare(&self.folder)?;
        write_report(&folder)?;
        let mut output = Output::new(io::stdout());
        writeln!(output, "{}", self.folder.join(REPORT).display())?;
        Ok(0)
    }
}

impl From<PageError> for Failure {
    fn from(error: PageError) -> Self {
        let hint = match error {
            PageError::Nothing { .. } => "give the folder that --out named",
            PageError::Read { .. } => "give a folder whose files can be read",
            PageError::Syntax { .. } => "remove that file, or run again with --out",
            PageError::Write { .. } => {
                "make room there, or make the folder one that can be written to"
            }
            PageError::Template(_) => "run again with --out",
        };
        Self::input(error.to_string()).hint(hint)
    }
}

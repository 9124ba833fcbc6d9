//! `lockstep man`: the help texts as manual pages, one for each command.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::{Arguments, EXIT_CODES, Failure};
use crate::report::output::Output;

const EXAMPLES: &str = "\
Examples:
  lockstep man | man -l -
  lockstep man --out ~/.local/share/man/man1      then `man lockstep-run`";

/// Print the manual page, or write the pages of all commands to a folder
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct ManCommand {
    /// A folder for lockstep.1 and one page for each command; it is made where it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl ManCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut output = Output::new(io::stdout());
        // As in the pages of a folder: `lockstep help` has no page of its own.
        let command = Arguments::command().disable_help_subcommand(true);
        match self.out {
            Some(folder) => {
                let pages = write(command, &folder).map_err(|error| {
                    Failure::input(format!("cannot write into {}: {error}", folder.display()))
                        .hint("give --out a folder that can be written to")
                })?;
                writeln!(output, "manual     {pages} pages: {}", folder.display())?;
            }
            None => Man::new(command).render(&mut output)?,
        }
        Ok(output.flush().map(|()| 0)?)
    }
}

/// The pages of all commands that the help shows; how many there are now.
fn write(command: clap::Command, folder: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)?;
    let ours = |name: &str| name.starts_with("lockstep") && name.ends_with(".1");
    let names = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name());
    Ok(names.filter(|name| name.to_str().is_some_and(ours)).count())
}

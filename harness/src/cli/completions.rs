//! `lockstep completions`: what a shell has to know to complete the command line.

use std::io::{self, Write};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, EXIT_CODES, Failure};
use crate::report::output::Output;

const INSTALL: &str = "\
Where the script goes, so that new shells find it:
  bash        lockstep completions bash > ~/.local/share/bash-completion/completions/lockstep
  zsh         lockstep completions zsh > ~/.zfunc/_lockstep      with ~/.zfunc in fpath
  fish        lockstep completions fish > ~/.config/fish/completions/lockstep.fish
  powershell  lockstep completions powershell >> $PROFILE
  elvish      lockstep completions elvish >> ~/.config/elvish/rc.elv";

/// Print the script that completes this command line in a shell
#[derive(Debug, Args)]
#[command(after_help = format!("{INSTALL}\n\n{EXIT_CODES}"))]
pub(super) struct CompletionsCommand {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut visible(&Arguments::command()),
            "lockstep",
            &mut script,
        );
        let mut output = Output::new(io::stdout());
        output.write_all(&script)?;
        Ok(output.flush().map(|()| 0)?)
    }
}

/// The command without what its help hides, which `clap_complete` would offer.
fn visible(command: &Command) -> Command {
    let name = command.get_name().to_owned();
    let shown = Command::new(name)
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()))
        .subcommands(command.get_subcommands().filter(|other| !other.is_hide_set()).map(visible));
    match command.get_about() {
        Some(about) => shown.about(about.clone()),
        None => shown,
    }
}

//! `lockstep`: reads the command line, does what it says, turns the answer into an exit code.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match harness::cli::execute() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Nobody reads standard error any more: the exit code still says it.
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.code)
        }
    }
}

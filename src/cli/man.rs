//! `man`: manual pages, made from the help of the commands.

use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

use super::{Failure, print};

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for each command to this folder instead, such as jwks-server-keys-list.1
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs, command: clap::Command) -> Result<(), Failure> {
    if let Some(dir) = &args.dir {
        return clap_mangen::generate_to(command, dir)
            .map_err(|e| Failure::broken(format!("{}: {e}", dir.display())));
    }
    let mut page = Vec::new();
    let rendered = Man::new(command.disable_help_subcommand(true)).render(&mut page);
    rendered.map_err(|e| Failure::broken(e.to_string()))?;
    print(&String::from_utf8_lossy(&page))
}

//! `completions`: scripts with which shells complete commands and options.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, print};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: clap::Command) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    // clap_complete spells a name with a hyphen in two ways for Bash, clap-rs/clap#6421.
    let script = String::from_utf8_lossy(&script).replace("jwks__subcmd__server", "jwks__server");
    print(&script)
}

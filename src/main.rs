//! The binary: everything is in the library.

use std::process::ExitCode;

/// Gives memory back soon after a flood, which the C library's allocator keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    jwks_server::cli::main()
}

//! The binary: everything is in the library.

use std::process::ExitCode;

/// Its threads give free memory back to the system; `.cargo/config.toml` says how soon.
#[cfg(all(
    feature = "jemalloc",
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu"
))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    jwks_server::cli::main()
}

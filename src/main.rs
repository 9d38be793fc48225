//! The program; everything is in the library.

use std::process::ExitCode;

/// musl's own allocator takes one lock for the whole process.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cognitive_memory_mcp::cli::main()
}

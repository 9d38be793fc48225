//! The program; its code is in the library.

use std::process::ExitCode;

/// musl's own allocator takes one lock for the whole process.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // If the allocator or the system provides huge pages everywhere, 3 MB of use occupy 15 MB of resident memory. Only
    // the weights of a model benefit from them, see `embed::local::huge_pages`. A failure has no other effect.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    cognitive_memory_mcp::cli::main()
}

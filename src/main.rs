//! The program; everything is in the library.

use std::process::ExitCode;

/// musl's own allocator takes one lock for the whole process.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Where the allocator asks for huge pages, or the system gives them to everybody, 3 MB of use are 15 MB of resident
    // memory. The weights of a model are worth them, see `embed::local::huge_pages`. Without them all works as well.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    cognitive_memory_mcp::cli::main()
}

//! The program; its code is in the library.

use std::process::ExitCode;

/// musl's own allocator takes one lock for the whole process.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes the allocator return freed pages to the system soon. By default it keeps them for a second, so that requests one
/// after the other need several times the memory of each.
#[cfg(target_env = "musl")]
fn return_freed_pages() {
    /// `mi_option_purge_delay` in mimalloc.h.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const MILLISECONDS: std::ffi::c_long = 10;
    #[expect(
        unsafe_code,
        reason = "the allocator has no safe interface for its options"
    )]
    // SAFETY: no other thread exists yet, and the function accepts any option and value.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, MILLISECONDS);
    }
}

fn main() -> ExitCode {
    #[cfg(target_env = "musl")]
    return_freed_pages();
    // If the allocator or the system provides huge pages everywhere, 3 MB of use occupy 15 MB of resident memory. Only
    // the weights of a model benefit from them, see `embed::local::huge_pages`. A failure has no other effect.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    cognitive_memory_mcp::cli::main()
}

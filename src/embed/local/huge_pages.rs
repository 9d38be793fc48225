//! Huge pages for the weights of a model.
//!
//! A question reads all weights once. In pages of 4 kB that is ten thousand translations of addresses, which take a tenth
//! of its time; in pages of 2 MB there are twenty.

use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// While it lives, memory that the process touches for the first time may come in huge pages, as the system is set up and
/// the allocator asks (mimalloc does). What has come in them stays.
pub(super) struct HugePages {
    were_disabled: bool,
}

impl HugePages {
    /// Where they are not to be had, nothing changes but speed.
    pub(super) fn allow() -> Self {
        let were_disabled = transparent_huge_pages_are_disabled().unwrap_or(false);
        if were_disabled {
            let _ = disable_transparent_huge_pages(false);
        }
        Self { were_disabled }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if self.were_disabled {
            let _ = disable_transparent_huge_pages(true);
        }
    }
}

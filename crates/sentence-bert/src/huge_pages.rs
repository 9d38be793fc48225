//! Huge pages for the weights of a model.
//!
//! A question reads all weights once. With pages of 4 kB, address translation takes a tenth of its time.

use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// While this value exists, the process may get new memory in huge pages, if the system and the allocator support them.
/// Memory keeps its pages afterwards.
pub(crate) struct HugePages {
    were_disabled: bool,
}

impl HugePages {
    /// Allows huge pages. Without support, only speed differs.
    pub(crate) fn allow() -> Self {
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

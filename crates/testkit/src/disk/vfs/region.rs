//! The memory that connections share, as SQLite wants it: plain bytes behind a pointer.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// A piece of shared memory. SQLite reads and writes it through the pointer alone.
#[derive(Debug)]
pub(in crate::disk) struct Region {
    pub(super) start: *mut u8,
    layout: Layout,
}

// SAFETY: the memory is only touched by SQLite under its own locking, and by `copy` and `overwrite`, which the one
// thread that drives a disk calls while no SQLite call runs.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub(in crate::disk) fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size.max(8), 8).expect("BUG: SQLite asks for 32 KiB regions");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Self { start, layout }
    }

    pub(in crate::disk) fn copy(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.layout.size()];
        // SAFETY: `start` is valid for `layout.size()` bytes, and nobody writes meanwhile.
        unsafe { self.start.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    pub(in crate::disk) fn overwrite(&self, bytes: &[u8]) {
        let n = bytes.len().min(self.layout.size());
        // SAFETY: as in `copy`, and no more bytes than either side has.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), n) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

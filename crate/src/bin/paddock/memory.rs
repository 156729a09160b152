//! The C library's allocator, told to keep what it has.

/// A step frees and takes the same hundreds of megabytes every time. By default glibc gives large pieces back to the system
/// at once and gets them anew, page by page and each filled with zeros, which takes a tenth of a step on the CPU.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it changes two numbers, before there is a second thread. Where it fails nothing has changed.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

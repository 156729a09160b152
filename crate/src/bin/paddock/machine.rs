//! How this program uses the machine: memory that it keeps, and threads.

/// A step frees and takes the same hundreds of megabytes every time. By default glibc gives large pieces back to the system
/// at once and gets them anew, page by page and each filled with zeros, which takes a tenth of a step on the CPU.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it changes two numbers, before there is a second thread. Where it fails nothing has changed.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Makes the calling thread one of those that share the engine's work, as long as nobody has begun to. What it hands out, many
/// hundred times a step, then waits for no other thread to wake up. Only for a program whose engine stays on this thread: what
/// others hand out is left to the rest of them.
pub fn work_along() {
    // It fails where there are threads already: the work is done by them alone then.
    let _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
}

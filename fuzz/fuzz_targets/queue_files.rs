//! Any bytes as a file of Postfix's queue: reading ends, within its bounds.
#![no_main]

use becalm::quarantine::queue_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = queue_file::read(&data, "X-Becalm") {
        assert!(file.recipients.len() <= 16 && file.marks.len() <= 8);
        // Lossy text has up to three bytes for one.
        assert!(file.recipients.iter().chain([&file.sender]).all(|address| address.len() <= 3 * 1024));
        assert!(file.marks.iter().all(|mark| mark.len() <= 6 * 1024));
    }
});

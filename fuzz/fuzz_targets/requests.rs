//! Any line to the helper: it is refused with a reason, or is a request whose own line means the same; and a queue
//! id that was taken is nothing but letters and digits, whatever was sent.
#![no_main]

use becalm::quarantine::protocol::{MAX_REQUEST, Request};
use becalm::quarantine::queue_id::QueueId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Request::parse(data) {
        Ok(request) => {
            let line = request.line();
            assert!(line.len() <= MAX_REQUEST);
            let (end, line) = line.split_last().expect("it ends with a line feed");
            assert!(*end == b'\n' && !line.contains(&b'\n'));
            assert_eq!(Request::parse(line), Ok(request.clone()));
            match request {
                Request::List => {}
                Request::Hold(id) | Request::Release(id) | Request::Return(id) | Request::Expire(id, _) => {
                    harmless(&id);
                }
            }
        }
        Err(refusal) => assert!(!refusal.message.is_empty()),
    }
    if let Some(id) = std::str::from_utf8(data).ok().and_then(|text| QueueId::parse(text).ok()) {
        harmless(&id);
    }
});

fn harmless(id: &QueueId) {
    let text = id.as_str();
    assert!((12..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    for place in id.places() {
        let (folders, name) = place.rsplit_once('/').unwrap_or(("", &place));
        assert_eq!(name, text);
        assert!(
            folders
                .split('/')
                .all(|folder| folder.len() <= 1 && folder.bytes().all(|b| b.is_ascii_hexdigit()))
        );
    }
}

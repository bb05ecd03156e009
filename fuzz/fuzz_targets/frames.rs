//! Any bytes: frames come out that put together again give the bytes they came from, and never too long ones.
#![no_main]

use becalm::milter::ProtocolError;
use becalm::milter::frame::{self, MAX_BODY};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let mut again = Vec::new();
    loop {
        match frame::split(rest, MAX_BODY) {
            Ok(Some((found, size))) => {
                assert!(found.body.len() <= MAX_BODY);
                assert_eq!(size, found.body.len() + 5);
                // Not a byte less would have done.
                assert_eq!(frame::split(&rest[..size - 1], MAX_BODY), Ok(None));
                frame::put(&mut again, found.command, &[found.body]);
                rest = &rest[size..];
            }
            Ok(None) => break,
            Err(ProtocolError::EmptyFrame | ProtocolError::FrameTooLong { .. }) => {
                // Whatever follows changes nothing.
                assert!(frame::split(&rest[..4], MAX_BODY).is_err());
                break;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(again, &data[..data.len() - rest.len()]);
});

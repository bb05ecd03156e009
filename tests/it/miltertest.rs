//! becalm as OpenDKIM's test tool sees it: another implementation of the MTA's side, driven by scripts.

use std::path::Path;
use std::process::Command;

use crate::harness::{Becalm, TOUCHY};

#[test]
fn miltertest_agrees() {
    let list = |name: &str| format!("[[list]]\naddress = '{name}@example.org'\nmode = '{name}'\n{TOUCHY}");
    let texts = "verdict.reject_text = 'not now'\nverdict.defer_text = 'later'\n";
    let lists: String =
        ["observe", "hold", "reject", "defer", "discard", "strip"].into_iter().map(list).collect();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/miltertest");
    let mut played = 0;
    for entry in std::fs::read_dir(&scripts).unwrap() {
        let script = entry.unwrap().path();
        if script.extension().is_none_or(|extension| extension != "lua") {
            continue;
        }
        // Each has a becalm of its own: they make storms.
        let becalm = Becalm::start(&format!("{texts}{lists}"));
        let output = Command::new("miltertest")
            .arg("-D")
            .arg(format!("socket={}", becalm.milter()))
            .arg("-s")
            .arg(&script)
            .output()
            .expect("miltertest is not installed: apt-get install miltertest");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {}\n{out}{err}", script.display(), output.status);
        // A script that breaks off is no failure to miltertest: the last line says that it came to its end.
        let counts = becalm.status().counts;
        let end = format!("done: {} failed open", counts.failed_open);
        assert!(out.trim_end().ends_with(&end), "{}, {counts:?}:\n{out}{err}", script.display());
        if script.ends_with("twice.lua") {
            assert_eq!((counts.ordinary, counts.watched, counts.passed), (1, 1, 1), "{counts:?}");
        }
        played += 1;
    }
    assert_eq!(played, 4);
}

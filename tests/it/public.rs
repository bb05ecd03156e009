//! What everybody may know, and what nobody else may.

use crate::harness::{Becalm, Site, TOUCHY, start_storm, wait_until};

const ALL: &str = "all@example.org";

fn config() -> String {
    format!(
        "public.time_zone = 'Europe/Vienna'\n[verdict]\nmode = 'hold'\n\
         [[list]]\naddress = '{ALL}'\npublic_name = 'R&D <all>'\n{TOUCHY}\
         [[list]]\naddress = 'secret-plan@example.org'\n{TOUCHY}\
         [[list]]\naddress = 'watched@example.org'\nmode = 'observe'\n{TOUCHY}"
    )
}

#[test]
fn everybody_learns_that_a_list_is_paused_and_nothing_else() {
    let site = Site::new(&config());
    let calm = site.becalm.command(&["status", "--public", "--lang", "de", "--format", "text"]);
    assert!(calm.contains("Alle Mailinglisten arbeiten wie gewohnt."), "{calm}");
    for list in [ALL, "secret-plan@example.org", "watched@example.org"] {
        start_storm(&site, list);
    }
    let storms = site.becalm.storms().storms;
    assert_eq!(storms.len(), 3, "{storms:?}");
    for language in ["en", "de", "fr", "es"] {
        for format in ["html", "text", "json"] {
            let told = site.becalm.command(&["status", "--public", "--lang", language, "--format", format]);
            for secret in ["@", "example", "secret", "watched", "840", "person", "mx1"] {
                assert!(!told.replace("@media", "").contains(secret), "{secret}: {told}");
            }
            assert!(!storms.iter().any(|storm| told.contains(&storm.storm)), "{told}");
            let name = if format == "html" { "R&amp;D &lt;all&gt;" } else { "R&D <all>" };
            assert!(told.contains(name), "{told}");
        }
    }
    let told = site.becalm.command(&["status", "--public", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let [named, unnamed] = &told["lists"].as_array().unwrap()[..] else { panic!("{told}") };
    let names = [&named["name"], &unnamed["name"]];
    assert!(names.contains(&&"R&D <all>".into()) && names.contains(&&serde_json::Value::Null), "{told}");

    // The emergency switch: nothing is touched, so nothing is paused.
    site.becalm.command(&["observe", "on"]);
    wait_until("everything is put to observe", || site.becalm.status().observing.then_some(()));
    let told = site.becalm.command(&["status", "--public", "--format", "text"]);
    assert!(told.contains("All mailing lists work as usual."), "{told}");
}

#[test]
fn without_a_daemon_nothing_is_written() {
    let mut becalm = Becalm::start(&config());
    let unknown = becalm.try_command(&["status", "--public", "--lang", "xx"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(1) && said.contains("there are de, en, es, fr"), "{said}");
    becalm.signal(rustix::process::Signal::TERM);
    becalm.wait();
    let output = becalm.try_command(&["status", "--public"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
}

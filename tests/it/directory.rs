//! Lists that becalm learns from Postfix's own files, while these change.

use std::path::Path;

use crate::harness::{Becalm, Letter, Site, open_folder, person, queued, wait_until};

fn members(becalm: &Becalm) -> Vec<(String, u64)> {
    let mut lists: Vec<_> =
        becalm.lists().lists.into_iter().map(|list| (list.address, list.members)).collect();
    lists.sort();
    lists
}

fn people(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{}\n", person(n))).collect()
}

/// Files are replaced as editors and postmap users do it: in one step.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
}

#[test]
fn aliases_virtuals_and_include_files_are_followed() {
    let folder = open_folder();
    let file = |name: &str| folder.path().join(name);
    let include = |name: &str| format!(":include:{}", file(name).display());
    replace(&file("staff"), &people(0, 40));
    replace(&file("guests"), &people(30, 60));
    replace(
        &file("aliases"),
        &format!(
            "# local lists\nstaff: {}\nall: staff,\n  {}, director@elsewhere.example\nroot: postmaster\n",
            include("staff"),
            include("guests")
        ),
    );
    let readers: Vec<String> = (0..15).map(|n| format!("reader{n}@example.net")).collect();
    replace(
        &file("virtual"),
        &format!("news@example.net {}\neveryone@example.net all@example.org\n", readers.join(", ")),
    );
    let site = Site::new(&format!(
        "postfix.local_domains = ['example.org']\npostfix.myorigin = 'example.org'
         [directory]\naliases = ['{}']\nvirtuals = ['{}']\nrefresh = '1s'\nmin_members = 10
         [verdict]\nmode = 'hold'\n[storm]\nbudget = 1\nfree = 1\nstorm_min = 2\nlist_factor = 1\n",
        file("aliases").display(),
        file("virtual").display()
    ));
    let known = |expected: &[(&str, u64)]| {
        let expected: Vec<_> =
            expected.iter().map(|(list, members)| ((*list).to_owned(), *members)).collect();
        wait_until(&format!("becalm knows {expected:?}, not {:?}", members(&site.becalm)), || {
            (members(&site.becalm) == expected).then_some(())
        });
    };
    known(&[("all@example.org", 61), ("news@example.net", 15), ("staff@example.org", 40)]);
    let origins: String = site.becalm.lists().lists.into_iter().map(|list| list.origin + "\n").collect();
    assert!(origins.contains(&format!("{}:2", file("aliases").display())), "{origins}");

    // A list that grows, in a file that another one includes.
    replace(&file("guests"), &people(30, 100));
    known(&[("all@example.org", 101), ("news@example.net", 15), ("staff@example.org", 40)]);
    // A storm on it, under its other name: what is held was judged with what is known now.
    let send = |n: usize, list: &str| {
        queued(&site.send(&Letter::new(&person(n), &format!("m{n}")).answers("root"), &[list]))
    };
    send(0, "everyone@example.net");
    let id = send(1, "everyone@example.net");
    assert!(site.fates().held.contains(&id));
    let storms = site.becalm.storms();
    let open: Vec<_> = storms.open.iter().map(|open| (open.list.as_deref(), open.members)).collect();
    assert_eq!(open, [(Some("all@example.org"), 101)], "{storms:?}");
    let id = send(10, "all@example.org");
    assert!(site.fates().held.contains(&id), "one list, whatever it is called");
    assert!(site.becalm.command(&["lists"]).contains("also everyone@example.net"));
    let held = site.becalm.command(&["quarantine", "list", "--list", "everyone@example.net"]);
    assert!(held.contains(&id), "{held}");

    // A list that comes; the storm goes on.
    replace(&file("staff"), &people(0, 41));
    replace(
        &file("virtual"),
        &format!(
            "news@example.net {0}\neveryone@example.net all@example.org\nextra@example.net {0}\n",
            readers.join(", ")
        ),
    );
    known(&[
        ("all@example.org", 101),
        ("extra@example.net", 15),
        ("news@example.net", 15),
        ("staff@example.org", 41),
    ]);
    let id = send(2, "everyone@example.net");
    assert!(site.fates().held.contains(&id));

    // A file that breaks, that vanishes, or that loses most of its members is not believed.
    let status = || site.becalm.status();
    let stale = |name: &str| {
        let name = file(name).display().to_string();
        status()
            .sources
            .into_iter()
            .find(|source| source.name.contains(&name))
            .and_then(|source| source.stale)
    };
    std::fs::remove_file(file("virtual")).unwrap();
    wait_until("the source is stale", || stale("virtual"));
    assert!(site.becalm.command(&["status"]).contains("STALE"));
    replace(&file("guests"), "");
    wait_until("the source is stale", || stale("aliases"));
    assert_eq!(members(&site.becalm).len(), 4);
    let id = send(3, "everyone@example.net");
    assert!(site.fates().held.contains(&id), "the storm goes on");
    assert!(site.becalm.wait_for_log("keeps what it read before").contains("virtual"));
    // A becalm that starts without it says so, and works with the rest.
    let becalm = site.becalm.restart();
    assert!(becalm.wait_for_log("keeps what it read before").contains("virtual"));
    assert!(members(&becalm).iter().any(|(list, _)| list == "staff@example.org"));
}

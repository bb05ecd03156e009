use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;

/// Long after any file of these tests was written, so that their stamps are trusted.
const NOW: u64 = 10_000_000_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(NOW + seconds * 1000)
}

fn rules() -> AddressRules {
    AddressRules {
        myorigin: "x.example".to_owned(),
        local_domains: vec!["x.example".to_owned()],
        ..AddressRules::default()
    }
}

struct Site {
    dir: TempDir,
    settings: DirectorySettings,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = DirectorySettings {
            aliases: vec![dir.path().join("aliases")],
            virtuals: vec![dir.path().join("virtual")],
            min_members: 2,
            ..DirectorySettings::default()
        };
        let site = Self { dir, settings };
        site.write("aliases", &format!("all: :include:{}\nteam: a, b, c\n", site.path("members").display()));
        site.write("members", &members(10));
        site.write("virtual", "sales@y.example a, b\n");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Directory {
        Directory::load(self.settings.clone(), rules(), at(0))
    }
}

fn members(count: usize) -> String {
    (0..count).map(|member| format!("m{member}@z.example\n")).collect()
}

fn size(snapshot: &Snapshot, address: &str) -> Option<u64> {
    snapshot.lookup_bytes(address.as_bytes()).map(|id| snapshot.list(id).members)
}

fn changed(outcome: Outcome) -> Arc<Snapshot> {
    let Outcome::Changed(snapshot) = outcome else { panic!("{outcome:?}") };
    snapshot
}

fn status(outcome: Outcome) -> Arc<Snapshot> {
    let Outcome::Status(snapshot) = outcome else { panic!("{outcome:?}") };
    snapshot
}

fn assert_unchanged(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Unchanged), "{outcome:?}");
}

#[test]
fn what_is_read_at_first() {
    let site = Site::new();
    let directory = site.load();
    let snapshot = directory.snapshot();
    assert_eq!(size(snapshot, "all@x.example"), Some(10));
    assert_eq!(size(snapshot, "sales@y.example"), Some(2));
    let origins = snapshot.lists().iter().map(|list| list.origin.as_str()).collect::<Vec<_>>();
    let (aliases, virtuals) = (site.path("aliases"), site.path("virtual"));
    assert_eq!(
        origins,
        [
            format!("aliases {}:1", aliases.display()),
            format!("virtual {}:1", virtuals.display()),
            format!("aliases {}:2", aliases.display())
        ]
    );
    let [configuration, aliases, virtuals] = snapshot.sources() else { panic!() };
    assert_eq!((configuration.name.as_str(), configuration.lists), ("configuration", 0));
    assert_eq!((aliases.lists, aliases.members, aliases.read_at, &aliases.stale), (2, 13, at(0), &None));
    assert_eq!((virtuals.lists, virtuals.members), (1, 2));
}

#[test]
fn files_are_read_again_when_they_change() {
    let site = Site::new();
    let mut directory = site.load();
    assert_unchanged(directory.refresh(at(30)));
    site.write("members", &members(12));
    let snapshot = changed(directory.refresh(at(60)));
    assert_eq!(size(&snapshot, "all@x.example"), Some(12));
    assert_eq!(snapshot.sources()[1].read_at, at(60));
    assert_unchanged(directory.refresh(at(90)));
    site.write("virtual", "sales@y.example a, b, all\n");
    assert_eq!(size(&changed(directory.refresh(at(120))), "sales@y.example"), Some(14));
}

#[test]
fn the_time_alone_makes_a_file_worth_reading() {
    let site = Site::new();
    let mut directory = site.load();
    site.write("members", &members(10).replace("m9@", "m8@"));
    let file = fs::File::options().write(true).open(site.path("members")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
    assert_eq!(size(&changed(directory.refresh(at(30))), "all@x.example"), Some(9));
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000)).unwrap();
    let snapshot = status(directory.refresh(at(60)));
    assert_eq!(snapshot.sources()[1].read_at, at(60), "read, and the same");
    assert_unchanged(directory.refresh(at(90)));
}

#[test]
fn a_second_write_in_the_tick_of_the_first_is_seen() {
    let site = Site::new();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW);
    let stamp = || {
        let file = fs::File::options().write(true).open(site.path("members")).unwrap();
        file.set_modified(modified).unwrap();
    };
    stamp();
    let mut directory = site.load();
    site.write("members", &members(10).replace("m9@", "m8@"));
    stamp();
    assert_eq!(size(&changed(directory.refresh(at(30))), "all@x.example"), Some(9));
    assert_unchanged(directory.refresh(at(60)));
}

#[test]
fn a_source_that_is_gone_keeps_its_lists() {
    let site = Site::new();
    let mut directory = site.load();
    fs::rename(site.path("aliases"), site.path("away")).unwrap();
    let snapshot = status(directory.refresh(at(30)));
    assert_eq!(size(&snapshot, "all@x.example"), Some(10));
    let aliases = &snapshot.sources()[1];
    assert!(aliases.stale.as_ref().unwrap().contains("cannot be read"), "{aliases:?}");
    assert_eq!((aliases.read_at, aliases.stale_since), (at(0), Some(at(30))));
    assert_unchanged(directory.refresh(at(60)));
    site.write("virtual", "sales@y.example team, d\n");
    assert_eq!(size(&changed(directory.refresh(at(90))), "sales@y.example"), Some(4), "others go on");
    fs::rename(site.path("away"), site.path("aliases")).unwrap();
    assert_eq!(status(directory.refresh(at(120))).sources()[1].stale, None);
}

#[test]
fn a_source_that_is_no_longer_text_keeps_its_lists() {
    let site = Site::new();
    let mut directory = site.load();
    site.write("aliases", "\0\0\0");
    let snapshot = status(directory.refresh(at(30)));
    assert_eq!(size(&snapshot, "team@x.example"), Some(3));
    assert!(snapshot.sources()[1].stale.as_ref().unwrap().contains("line 1 is not text"));
    let snapshot = directory.reload(site.settings.clone(), rules(), at(60));
    assert_eq!(size(&status(snapshot), "team@x.example"), Some(3), "not even by the operator's word");
}

#[test]
fn a_loss_is_believed_on_the_operators_word_only() {
    let site = Site::new();
    let mut directory = site.load();
    site.write("members", &members(3));
    let snapshot = status(directory.refresh(at(30)));
    assert_eq!(size(&snapshot, "all@x.example"), Some(10));
    let aliases = &snapshot.sources()[1];
    assert!(aliases.stale.as_ref().unwrap().contains("from 13 members to 6"), "{aliases:?}");
    assert_unchanged(directory.refresh(at(60)));
    assert_unchanged(directory.refresh(at(1_000_000)));
    let snapshot = changed(directory.reload(site.settings.clone(), rules(), at(2_000_000)));
    assert_eq!(size(&snapshot, "all@x.example"), Some(3));
    assert_eq!(snapshot.sources()[1].stale, None);
}

#[test]
fn a_small_loss_is_believed() {
    let site = Site::new();
    let mut directory = site.load();
    site.write("members", &members(4));
    assert_eq!(size(&changed(directory.refresh(at(30))), "all@x.example"), Some(4), "6 of 13");
    site.write("members", &members(10));
    changed(directory.refresh(at(60)));
}

#[test]
fn a_broken_include_keeps_its_members_and_the_rest_goes_on() {
    let site = Site::new();
    let mut directory = site.load();
    fs::remove_file(site.path("members")).unwrap();
    site.write("aliases", &format!("all: :include:{}\nteam: a, b, c, d\n", site.path("members").display()));
    let snapshot = changed(directory.refresh(at(30)));
    assert_eq!((size(&snapshot, "all@x.example"), size(&snapshot, "team@x.example")), (Some(10), Some(4)));
    let aliases = &snapshot.sources()[1];
    let why = aliases.stale.as_ref().unwrap();
    assert!(why.contains("aliases:1: ") && why.contains("members cannot be read"), "{why}");
    assert_eq!(aliases.read_at, at(0));
    assert_unchanged(directory.refresh(at(60)));
    site.write("members", &members(11));
    let snapshot = changed(directory.refresh(at(90)));
    assert_eq!((size(&snapshot, "all@x.example"), &snapshot.sources()[1].stale), (Some(11), &None));
}

#[test]
fn an_include_that_never_was_keeps_the_source_as_it_was() {
    let site = Site::new();
    let mut directory = site.load();
    site.write("aliases", &format!("all: :include:{}, one, two\nteam: a, b\n", site.path("more").display()));
    let snapshot = status(directory.refresh(at(30)));
    assert_eq!((size(&snapshot, "all@x.example"), size(&snapshot, "team@x.example")), (Some(10), Some(3)));
    let snapshot = changed(directory.reload(site.settings.clone(), rules(), at(60)));
    assert_eq!(size(&snapshot, "all@x.example"), Some(2));
    let aliases = &snapshot.sources()[1];
    assert!(aliases.stale.is_some() && aliases.warnings[0].contains("more cannot be read"), "{aliases:?}");
    site.write("more", &members(7));
    assert_eq!(size(&changed(directory.refresh(at(90))), "all@x.example"), Some(9));
}

#[test]
fn the_start_does_not_fail() {
    let dir = tempfile::tempdir().unwrap();
    let settings = DirectorySettings {
        aliases: vec![dir.path().join("none")],
        lists: vec![ConfiguredList {
            address: "Everyone@X.example".to_owned(),
            members: 7,
            class: None,
            origin: "becalm.toml:1".to_owned(),
        }],
        ..DirectorySettings::default()
    };
    let mut directory = Directory::load(settings, rules(), at(0));
    let snapshot = directory.snapshot();
    assert_eq!(size(snapshot, "everyone@x.example"), Some(7));
    assert!(snapshot.sources()[1].stale.is_some());
    fs::write(dir.path().join("none"), format!("all: {}", members(20).replace('\n', ", "))).unwrap();
    assert_eq!(size(&changed(directory.refresh(at(30))), "all@x.example"), Some(20));
}

#[test]
fn domain_aliases_become_rules() {
    let site = Site::new();
    site.write(
        "virtual",
        "@old.example @y.example\nsales@old.example a, b\nall@y.example sales@OLD.example, c\n",
    );
    let mut directory = site.load();
    let snapshot = directory.snapshot().clone();
    assert_eq!(size(&snapshot, "sales@y.example"), Some(2));
    assert_eq!(size(&snapshot, "all@y.example"), Some(3));
    let mut buf = AddressBuf::new();
    let address = snapshot.rules().canonical(b"Sales@Old.Example", &mut buf).unwrap();
    assert!(snapshot.lookup(&address).is_some());
    site.write("virtual", "sales@old.example a, b\nall@y.example sales@OLD.example, c, d\n");
    let snapshot = changed(directory.refresh(at(30)));
    assert_eq!(size(&snapshot, "sales@old.example"), Some(2));
    assert!(snapshot.rules().domain_aliases.is_empty());
}

#[test]
fn other_rules_read_everything_again() {
    let site = Site::new();
    let mut directory = site.load();
    let other = AddressRules { local_domains: vec!["w.example".to_owned()], ..rules() };
    let snapshot = changed(directory.reload(site.settings.clone(), other, at(30)));
    assert_eq!((size(&snapshot, "team@x.example"), size(&snapshot, "team@w.example")), (None, Some(3)));
}

#[test]
fn configured_lists_and_patterns_are_made_canonical() {
    let list = |address: &str, members| ConfiguredList {
        address: address.to_owned(),
        members,
        class: Some("big".to_owned()),
        origin: "becalm.toml:3".to_owned(),
    };
    let settings = DirectorySettings {
        lists: vec![
            list("All", 100),
            list("<all@X.Example>", 200),
            list("*-All@Q.example", 50),
            list("news-*@z.EXAMPLE", 5),
            list("dept.*", 1),
            list("@", 1),
            list("*@", 1),
        ],
        ..DirectorySettings::default()
    };
    let rules =
        AddressRules { domain_aliases: [("q.example".to_owned(), "r.example".to_owned())].into(), ..rules() };
    let directory = Directory::load(settings, rules, at(0));
    let snapshot = directory.snapshot();
    assert_eq!(size(snapshot, "all@x.example"), Some(100));
    assert_eq!(size(snapshot, "it-all@r.example"), Some(50));
    assert_eq!(size(snapshot, "news-1@z.example"), Some(5));
    assert_eq!(size(snapshot, "dept.it@any.example"), Some(1));
    let configuration = &snapshot.sources()[0];
    assert_eq!((configuration.lists, configuration.members), (4, 156));
    assert_eq!(configuration.warnings.len(), 3, "{configuration:?}");
    assert!(configuration.warnings[0].starts_with("becalm.toml:3: <all@X.Example>: "));
}

#[test]
fn includes_too_deep_are_refused() {
    let site = Site::new();
    let mut directory = site.load();
    for depth in 0..1_001 {
        let next = site.path(&format!("deep{}", depth + 1));
        site.write(&format!("deep{depth}"), &format!("d{depth}\n:include:{}\n", next.display()));
    }
    site.write("deep1001", "end\n");
    site.write("aliases", &format!("all: :include:{}\n", site.path("deep0").display()));
    let snapshot = status(directory.refresh(at(30)));
    assert!(snapshot.sources()[1].stale.as_ref().unwrap().contains("more than 1000 deep"));
    assert_eq!(size(&snapshot, "all@x.example"), Some(10));
    site.write("deep900", "d900\n");
    assert_eq!(size(&changed(directory.refresh(at(60))), "all@x.example"), Some(901));
}

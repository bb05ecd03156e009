//! What becalm knows outlives it: restarts in the middle of a storm, and disks that fail.

use std::path::Path;
use std::process::Command;

use becalm::admin::api::Journal;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::harness::{Becalm, Letter, Site, TOUCHY, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";

fn config() -> String {
    format!(
        "[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}
         [[list]]\naddress = 'quiet@example.org'\n{TOUCHY}
         [[list]]\naddress = 'calm@example.org'\nmembers = 10\n"
    )
}

/// Waits until everything that happened is on the disk.
#[track_caller]
fn wait_until_safe(becalm: &Becalm) -> Journal {
    wait_until("the journal is written", || {
        let journal = becalm.status().journal;
        (journal.waiting == 0 && journal.written > 0).then_some(journal)
    })
}

/// Ends it with this signal, and starts it again with the same files.
fn restart(site: Site, signal: Signal) -> Site {
    let Site { postfix, mut becalm, mailbox } = site;
    becalm.signal(signal);
    becalm.wait_until_still();
    Site { postfix, becalm: becalm.restart(), mailbox }
}

#[test]
fn a_restart_in_the_middle_of_a_storm_goes_on_holding() {
    let mut site = Site::new(&config());
    let [first, second] = start_storm(&site, ALL).map(|reply| queued(&reply));
    let mut held = vec![second];
    let records = site.becalm.storms().storms;
    let name = records[0].storm.clone();
    for (round, signal) in [Signal::TERM, Signal::KILL, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        if signal == Signal::KILL {
            wait_until_safe(&site.becalm);
        }
        site = restart(site, signal);
        let storms = site.becalm.storms();
        let [open] = &storms.open[..] else { panic!("{signal:?}: {storms:?}") };
        assert_eq!((open.list.as_deref(), open.phase.as_str()), (Some(ALL), "storm"));
        assert_eq!(open.storm.as_ref(), Some(&name), "the same storm, by its name");
        assert_eq!(open.held, held.len() as u64, "and its figures");
        assert_eq!(storms.storms, records, "and what is told of it");

        // A stranger is held; the same message again is the same message.
        let letter = Letter::new(&person(10 + round), &format!("later{round}"));
        for _ in 0..2 {
            let id = queued(&site.send(&letter, &[ALL]));
            assert!(site.fates().held.contains(&id), "after {signal:?}");
            let text = site.postfix.postcat(&id).unwrap();
            assert!(text.contains(&format!("storm={name}")), "{text}");
        }
        held.push(letter.text());
        // Other lists are none the worse.
        let calm = Letter::new(&person(50), &format!("calm{round}"));
        let id = queued(&site.send(&calm, &["calm@example.org"]));
        assert!(site.fates().is_delivered(&id), "after {signal:?}");
        let status = site.becalm.status();
        assert!(!status.memory_only);
        assert_eq!((status.journal.state.as_str(), status.journal.dropped), ("ok", 0));
        assert!(status.journal.recalled.records > 0 && status.journal.recalled.damaged == 0);
    }
    assert!(site.fates().is_delivered(&first));
}

#[test]
fn a_journal_without_its_end_is_read_as_far_as_it_goes() {
    let site = Site::new(&config());
    start_storm(&site, ALL);
    wait_until_safe(&site.becalm);
    let Site { postfix, mut becalm, mailbox } = site;
    becalm.signal(Signal::KILL);
    becalm.wait_until_still();
    // As a power loss leaves it: the last segment ends within a record, and after it there is something else.
    let folder = becalm.home().join("journal");
    let mut segments: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .filter(|path| std::fs::metadata(path).unwrap().len() > 128)
        .collect();
    segments.sort();
    let last = segments.last().expect("there is a segment");
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend_from_slice(&[0xbe, 0xca, 200, 0, 1, 2, 3]);
    bytes.extend_from_slice(&[0; 100]);
    std::fs::write(last, &bytes).unwrap();
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    assert_eq!(site.becalm.storms().open.len(), 1);
    assert_eq!(site.becalm.status().journal.recalled.torn, 107);

    // A later version's journal is left alone, and becalm works without.
    let Site { postfix, mut becalm, mailbox } = site;
    becalm.signal(Signal::TERM);
    assert!(becalm.wait());
    let header = {
        let mut header = bytes[..128].to_vec();
        header[16] = 77;
        let code = crc32(&header[..124]);
        header[124..].copy_from_slice(&code.to_le_bytes());
        header
    };
    let later = folder.join("99999999.segment");
    std::fs::write(&later, &header).unwrap();
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    let status = site.becalm.status();
    assert!(status.memory_only);
    let why = status.journal.why.expect("it says why");
    assert!(why.contains("99999999.segment was written by a later version"), "{why}");
    assert!(site.becalm.command(&["status"]).contains("DEGRADED since"));
    let [_, held] = start_storm(&site, "quiet@example.org");
    assert!(site.fates().held.contains(&queued(&held)));
    assert_eq!(std::fs::read(&later).unwrap(), header);
}

/// The code of gzip and of the journal, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |code, byte| {
        (0..8).fold(
            code ^ u32::from(*byte),
            |code, _| {
                if code & 1 == 1 { code >> 1 ^ 0xedb8_8320 } else { code >> 1 }
            },
        )
    })
}

/// How a disk fails, and how it gets well.
trait Disk {
    fn fail(&self, becalm: &Becalm);
    fn heal(&self, becalm: &Becalm);
}

/// What holds for every disk that fails in the middle of a storm.
fn verdicts_go_on_and_it_heals(site: Site, disk: &dyn Disk) {
    start_storm(&site, ALL);
    let before = wait_until_safe(&site.becalm);
    assert_eq!(before.state, "ok", "{before:?}");

    disk.fail(&site.becalm);
    // Mail is judged as ever: the storm goes on, and another one is noticed.
    let mut number = 100;
    let mut send = |site: &Site| {
        number += 1;
        queued(&site.send(&Letter::new(&person(number), &format!("n{number}")), &[ALL]))
    };
    let id = send(&site);
    assert!(site.fates().held.contains(&id));
    let [_, second] = start_storm(&site, "quiet@example.org");
    assert!(site.fates().held.contains(&queued(&second)));
    let journal = wait_until("it is degraded", || {
        send(&site);
        let journal = site.becalm.status().journal;
        (journal.state == "degraded" && journal.dropped > 0).then_some(journal)
    });
    assert!(journal.why.is_some() && journal.since.is_some(), "{journal:?}");
    let text = site.becalm.command(&["status"]);
    assert!(text.contains("DEGRADED since"), "{text}");

    disk.heal(&site.becalm);
    let journal = wait_until("it heals", || {
        let journal = site.becalm.status().journal;
        (journal.state == "ok").then_some(journal)
    });
    assert!(journal.checkpoint.is_some(), "what was dropped is in a checkpoint: {journal:?}");
    let id = send(&site);
    assert!(site.fates().held.contains(&id));
    wait_until_safe(&site.becalm);

    // Nothing is missing: neither of the storms is forgotten.
    let before = site.becalm.storms();
    let site = restart(site, Signal::KILL);
    let after = site.becalm.storms();
    assert_eq!(after.open, before.open);
    assert_eq!(after.open.len(), 2, "{after:?}");
    let id = send(&site);
    assert!(site.fates().held.contains(&id));
}

/// A small file system in memory, mounted for a test.
struct Mount(tempfile::TempDir);

impl Mount {
    /// None where the machine refuses to mount.
    fn new() -> Option<Self> {
        let folder = crate::harness::open_folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0755", "becalm-test"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(self.path()).status().unwrap();
        assert!(done.success(), "mount -o {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

struct Full<'m>(&'m Mount);

impl Disk for Full<'_> {
    fn fail(&self, _becalm: &Becalm) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.path().join("ballast")).unwrap();
        let zeros = [0; 4096];
        while file.write_all(&zeros).is_ok() {}
    }

    fn heal(&self, _becalm: &Becalm) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

struct Limited;

impl Limited {
    fn limit(becalm: &Becalm, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        let pid: Pid = becalm.pid();
        rustix::process::prlimit(Some(pid), Resource::Fsize, limit).expect("root may limit anybody");
    }
}

impl Disk for Limited {
    fn fail(&self, becalm: &Becalm) {
        Self::limit(becalm, Some(130));
    }

    fn heal(&self, becalm: &Becalm) {
        Self::limit(becalm, None);
    }
}

#[test]
fn a_full_disk_costs_memory_and_no_verdict() {
    let Some(mount) = Mount::new() else {
        // Where mounting is refused, `a_file_that_may_not_grow` stands for it.
        return;
    };
    let folder = format!("journal.directory = '{}/journal'\n", mount.path().display());
    let site = Site::new(&(folder + &config()));
    verdicts_go_on_and_it_heals(site, &Full(&mount));
}

#[test]
fn a_file_that_may_not_grow_costs_memory_and_no_verdict() {
    verdicts_go_on_and_it_heals(Site::new(&config()), &Limited);
}

/// A disk that takes no write for a while: a file system of its own that is frozen (fsfreeze(8)).
struct Frozen(Mount);

impl Frozen {
    /// None where the machine refuses to mount.
    fn new() -> Option<Self> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(8 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(image.path()).output();
        let folder = crate::harness::open_folder();
        let mounted =
            Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(folder.path()).output();
        let done = |output: std::io::Result<std::process::Output>| output.is_ok_and(|it| it.status.success());
        (done(made) && done(mounted)).then(|| Self(Mount(folder)))
    }

    fn freeze(&self, flag: &str) {
        let done = Command::new("fsfreeze").arg(flag).arg(self.0.path()).status().unwrap();
        assert!(done.success(), "fsfreeze {flag}");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Or nothing that has a file open there ever ends.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(self.0.path()).output();
    }
}

#[test]
fn a_disk_that_stands_still_stops_no_verdict() {
    let Some(disk) = Frozen::new() else { return };
    let folder = format!(
        "journal.directory = '{}/journal'
",
        disk.0.path().display()
    );
    let site = Site::new(&(folder + &config()));
    start_storm(&site, ALL);
    wait_until_safe(&site.becalm);
    disk.freeze("--freeze");
    let mut number = 0;
    let journal = wait_until("it is degraded", || {
        number += 1;
        let id = queued(&site.send(&Letter::new(&person(number), &format!("n{number}")), &[ALL]));
        assert!(site.fates().held.contains(&id), "verdicts go on");
        let journal = site.becalm.status().journal;
        (journal.state == "degraded").then_some(journal)
    });
    assert!(journal.why.as_ref().is_some_and(|why| why.contains("not taken a write")), "{journal:?}");
    assert!(journal.waiting > 0 && journal.dropped == 0, "there is room for minutes: {journal:?}");
    disk.freeze("--unfreeze");
    wait_until("it heals", || (site.becalm.status().journal.state == "ok").then_some(()));
    wait_until_safe(&site.becalm);
    let before = site.becalm.storms().open;
    let site = restart(site, Signal::KILL);
    assert_eq!(site.becalm.storms().open, before, "nothing was lost");
}

/// The disk became read-only: as ext4 does when it finds an error. A file system with a file open for writing
/// cannot be told to by hand, so becalm starts on one that is.
#[test]
fn a_read_only_disk_is_read_and_written_when_it_can_be() {
    let Some(mount) = Mount::new() else { return };
    let folder = format!("journal.directory = '{}/journal'\n", mount.path().display());
    let site = Site::new(&(folder + &config()));
    start_storm(&site, ALL);
    wait_until_safe(&site.becalm);
    let Site { postfix, mut becalm, mailbox } = site;
    becalm.signal(Signal::TERM);
    assert!(becalm.wait());
    mount.remount("remount,ro");
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    let journal = site.becalm.status().journal;
    assert_eq!(journal.state, "degraded", "{journal:?}");
    assert!(journal.why.as_ref().is_some_and(|why| why.contains("Read-only")), "{journal:?}");
    assert_eq!(site.becalm.storms().open.len(), 1, "what it holds was read");
    start_storm(&site, "quiet@example.org");
    mount.remount("remount,rw");
    wait_until("it heals", || (site.becalm.status().journal.state == "ok").then_some(()));
    let site = restart(site, Signal::KILL);
    assert_eq!(site.becalm.storms().open.len(), 2, "and what happened meanwhile is in the checkpoint");
}

#[test]
fn without_a_journal_it_says_so() {
    let becalm = Becalm::start(&format!("journal.enabled = false\n{}", config()));
    let status = becalm.status();
    assert!(status.memory_only);
    assert_eq!((status.journal.state.as_str(), status.journal.folder), ("off", None));
    assert!(becalm.command(&["status"]).contains("forgotten at a restart"));
    assert!(!becalm.home().join("journal").exists());

    // A folder that cannot be made: it works, and says so; and goes on when it can.
    let becalm = Becalm::start(&format!("journal.directory = '/proc/none/journal'\n{}", config()));
    let journal = becalm.status().journal;
    assert_eq!(journal.state, "degraded");
    assert!(journal.why.as_ref().is_some_and(|why| why.contains("/proc/none/journal")), "{journal:?}");
}

/// The files tell nothing to whoever copies them.
#[test]
fn no_address_and_no_subject_is_in_it_and_only_becalm_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new(&config());
    start_storm(&site, ALL);
    site.send(&Letter::new(&person(7), "secret").field("Subject: confidential"), &[ALL]);
    wait_until_safe(&site.becalm);
    wait_until("a checkpoint", || site.becalm.status().journal.checkpoint);
    let folder = site.becalm.home().join("journal");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        for word in ["example", "person", "confidential", "secret"] {
            let found = bytes.windows(word.len()).any(|bytes| bytes.eq_ignore_ascii_case(word.as_bytes()));
            assert!(!found, "{word} in {}", path.display());
        }
        files += 1;
    }
    assert!(files >= 3, "lock, segment, checkpoint");
}

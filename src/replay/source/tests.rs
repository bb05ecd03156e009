use super::*;
use crate::replay::header::Arrival;
use crate::replay::scenario::Kind;
use std::path::Path;

/// A message of that minute, in the form of an mbox.
fn message(minute: u64, subject: &str) -> String {
    format!("From a@x.example Mon Apr 29 00:{minute:02}:00 2019\nSubject: {subject}\n\nbody\n\n")
}

fn subjects(mut next: impl FnMut(&mut Arrived) -> bool) -> Vec<String> {
    let mut message = Arrived::default();
    let mut found = Vec::new();
    while next(&mut message) {
        let head = String::from_utf8_lossy(&message.head).into_owned();
        found.push(head.split("ubject: ").nth(1).unwrap_or("?").lines().next().unwrap_or("?").to_owned());
    }
    found
}

fn all(source: &mut impl Source) -> Vec<String> {
    subjects(|message| source.next(message).unwrap())
}

fn write(folder: &Path, name: &str, text: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn dated(minute: u64, subject: &str) -> Vec<u8> {
    format!("Date: Mon, 29 Apr 2019 00:{minute:02}:00 +0000\r\nSubject: {subject}\r\n\r\nbody\r\n")
        .into_bytes()
}

#[test]
fn an_mbox_is_brought_into_order() {
    let text = [message(3, "c"), message(1, "a"), message(1, "b"), message(2, "b")].concat();
    let mut source = MboxSource::new(text.as_bytes(), None);
    assert_eq!(all(&mut source), ["a", "b", "b", "c"], "of the same time as they came");
    assert_eq!(source.skipped(), &Skipped::default());
}

#[test]
fn what_comes_too_late_for_the_buffer_comes_late() {
    let mut text: String = (0..1500).map(|n| message(2 + n / 50, "x")).collect();
    text.push_str(&message(1, "late"));
    let mut source = MboxSource::new(text.as_bytes(), None);
    let found = all(&mut source);
    let place = found.iter().position(|subject| subject == "late").unwrap();
    assert_eq!((found.len(), place), (1501, 1501 - 1024), "as soon as it was read");
}

#[test]
fn an_mbox_in_order_is_read_no_further_than_it_need_be() {
    let place_of_late = |first: &str| {
        let text =
            [first, &message(2, "early").repeat(1024), &week_later("later"), &message(1, "late")].concat();
        all(&mut MboxSource::new(text.as_bytes(), None)).iter().position(|subject| subject == "late").unwrap()
    };
    assert_eq!(place_of_late(""), 1024, "all that waits is days older than the last one that was read");
    assert_eq!(place_of_late(&week_later("first")), 3, "once out of order, it may be so again");
}

fn week_later(subject: &str) -> String {
    message(3, subject).replace("Apr 29", "May  6")
}

#[test]
fn an_mbox_out_of_order_that_fits_in_the_buffer_is_sorted() {
    let text: String = (1..29)
        .rev()
        .map(|day| message(0, &format!("{day:02}")).replace("Apr 29", &format!("Apr {day:2}")))
        .collect();
    let found = all(&mut MboxSource::new(text.as_bytes(), None));
    assert!(found.is_sorted() && found.len() == 28, "{found:?}");
    let text = [message(2, "b"), week_later("c"), message(1, "a")].concat();
    assert_eq!(
        all(&mut MboxSource::new(text.as_bytes(), None)),
        ["a", "b", "c"],
        "a week is waited for, too"
    );
}

#[test]
fn nothing_of_another_source_is_left() {
    let mbox = message(1, "a").into_bytes();
    let mut used = Arrived { list: Some(b"l".to_vec()), ..Arrived::default() };
    let mut found = |source: &mut dyn Source| {
        assert!(source.next(&mut used).unwrap());
        let ends = used.head.split_inclusive(|byte| *byte == b'\n').count();
        (used.list.is_some(), used.lines.len() == ends, used.lines.is_empty())
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", &dated(1, "a"));
    let scenario = || Kind::named("nhs-2016").unwrap().generate(1);
    assert_eq!(found(&mut MboxSource::new(mbox.as_slice(), None)), (false, true, false));
    assert_eq!(
        found(&mut FolderSource::open(folder.path(), Layout::Files, None).unwrap()),
        (false, false, true)
    );
    assert_eq!(found(&mut MboxSource::new(mbox.as_slice(), None)), (false, true, false));
    assert_eq!(found(&mut ScenarioSource::new(scenario(), "l@x.example")), (true, false, true));
    assert_eq!(
        found(&mut FolderSource::open(folder.path(), Layout::Files, None).unwrap()),
        (false, false, true)
    );
}

#[test]
fn what_is_wrong_with_an_mbox_is_counted() {
    let skipped = |text: &str, arrival| {
        let mut source = MboxSource::new(text.as_bytes(), arrival);
        let found = all(&mut source).len();
        (found, source.skipped().by_reason.iter().map(|(why, count)| (*why, *count)).collect::<Vec<_>>())
    };
    assert_eq!(skipped("no mbox\n", None), (0, vec![(Skip::NoMbox, 1)]));
    assert_eq!(skipped("", None), (0, vec![(Skip::Empty, 1)]));
    let good = message(1, "a");
    assert_eq!(skipped(&format!("something else\n\n{good}"), None), (1, vec![(Skip::Stray, 1)]));
    let bare = "From a@x.example Mon Apr 29 00:00:00 2019\n\nno header\n\n";
    assert_eq!(skipped(&format!("{bare}{good}"), None), (1, vec![(Skip::NoFields, 1)]));
    assert_eq!(skipped(&good, Some(Arrival::Date)), (0, vec![(Skip::NoArrival, 1)]));
    let long = "x".repeat(200_000);
    let mut source = MboxSource::new(std::io::Cursor::new(message(1, &long)), None);
    assert_eq!((all(&mut source).len(), source.skipped().cut()), (1, 1));
    assert!(source.skipped().by_reason().is_empty(), "it was played");
}

#[test]
fn an_mbox_without_times_is_played_by_its_fields() {
    let times = |arrival| {
        let dated = String::from_utf8(dated(7, "a")).unwrap();
        let text = format!("From \n{dated}\nFrom a@x.example\nSubject: no time\n\n{}", message(1, "b"));
        let mut source = MboxSource::new(std::io::Cursor::new(text), arrival);
        (all(&mut source), source.skipped().of(Skip::NoArrival))
    };
    let found = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect::<Vec<_>>();
    assert_eq!(times(None), (found(&["b", "a"]), 1));
    assert_eq!(times(Some(Arrival::Date)), (found(&["a"]), 2));
    assert_eq!(times(Some(Arrival::FromLine)), (found(&["b"]), 2));
}

#[test]
fn the_null_sender_of_an_mbox() {
    let text = "From MAILER-DAEMON Mon Apr 29 00:00:00 2019\nSubject: x\n\n";
    let mut message = Arrived::default();
    assert!(MboxSource::new(text.as_bytes(), None).next(&mut message).unwrap());
    assert_eq!(message.sender, b"");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "bounce", text.as_bytes());
    let mut files = FolderSource::open(folder.path(), Layout::Files, None).unwrap();
    message.sender.push(b'x');
    assert!(files.next(&mut message).unwrap());
    assert_eq!(message.sender, b"");
}

#[test]
fn a_folder_is_sorted_and_what_is_no_message_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "z.eml", &dated(1, "a"));
    write(path, "deep/er/b.eml", &dated(3, "c"));
    write(path, "deep/a.eml", message(2, "b").as_bytes());
    write(path, "picture.jpg", &[0xff, 0xd8, 0, 1, 2, 3]);
    write(path, "empty", b"");
    write(path, "undated.eml", b"Subject: x\n\n");
    write(
        path,
        "long.eml",
        &[dated(4, "d").strip_suffix(b"\r\n\r\nbody\r\n").unwrap(), &[b'x'; 300_000]].concat(),
    );
    std::os::unix::fs::symlink(path, path.join("deep/loop")).unwrap();
    let mut source = FolderSource::open(path, Layout::Files, None).unwrap();
    let found = all(&mut source);
    assert_eq!((found.len(), &found[..3]), (4, ["a", "b", "c"].map(str::to_owned).as_slice()));
    let skipped = source.skipped();
    let counts = [Skip::NoFields, Skip::NoArrival, Skip::NoFile].map(|why| skipped.of(why));
    assert_eq!((counts, skipped.cut()), ([2, 1, 1], 1), "{skipped:?}");
    assert!(FolderSource::open(&path.join("nowhere"), Layout::Files, None).is_err());
}

#[test]
fn folders_that_are_too_deep_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &format!("{}x.eml", "d/".repeat(40)), &dated(1, "a"));
    write(folder.path(), &format!("{}y.eml", "e/".repeat(31)), &dated(1, "b"));
    let mut source = FolderSource::open(folder.path(), Layout::Files, None).unwrap();
    assert_eq!(all(&mut source), ["b"]);
    assert_eq!(source.skipped().of(Skip::TooDeep), 1);
}

#[test]
fn a_maildir_is_what_is_in_cur_and_new() {
    let folder = tempfile::tempdir().unwrap();
    for (name, minute, subject) in
        [("cur/1", 1, "a"), (".Lists/new/2", 2, "b"), ("tmp/3", 3, "x"), ("dovecot.index", 4, "x")]
    {
        write(folder.path(), name, &dated(minute, subject));
    }
    let mut source = FolderSource::open(folder.path(), Layout::Maildir, None).unwrap();
    assert_eq!(all(&mut source), ["a", "b"]);
    assert_eq!(source.skipped(), &Skipped::default());
}

#[test]
fn a_folder_that_is_no_maildir_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.eml", &dated(1, "a"));
    let why = FolderSource::open(folder.path(), Layout::Maildir, None).err().unwrap().to_string();
    assert!(why.contains("no folder `cur` or `new`") && why.contains("--folder"), "{why}");
    std::fs::create_dir(folder.path().join("new")).unwrap();
    assert!(all(&mut FolderSource::open(folder.path(), Layout::Maildir, None).unwrap()).is_empty());
}

#[test]
fn several_sources_are_one_by_time() {
    let one = [message(1, "a"), message(4, "d")].concat();
    let other = [message(2, "b"), message(3, "c"), message(5, "e")].concat();
    let scenario = Kind::named("calm-incident").unwrap().generate(1);
    let posts = scenario.posts.len();
    let mut merged = Merged::new(vec![
        Box::new(MboxSource::new(std::io::Cursor::new(one), None)),
        Box::new(ScenarioSource::new(scenario, "all@x.example")),
        Box::new(MboxSource::new(std::io::Cursor::new("nothing"), None)),
        Box::new(MboxSource::new(std::io::Cursor::new(other), None)),
    ])
    .unwrap();
    let found = subjects(|message| merged.next(message));
    assert_eq!(found.len(), posts + 5);
    assert_eq!(found[posts..], ["a", "b", "c", "d", "e"], "2016 comes before 2019");
    assert_eq!(merged.skipped().by_reason(), [("not an mbox: no `From ` line".to_owned(), 1)].into());
}

/// A disk that fails after these bytes.
struct Failing<'a>(&'a [u8]);

impl std::io::Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(std::io::Error::other("a bad block")),
            read => Ok(read),
        }
    }
}

#[test]
fn a_source_that_breaks_off_does_not_end_the_others() {
    let many: String = (0..3000).map(|_| message(1, "broken")).collect();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "1", &dated(59, "last"));
    let mut merged = Merged::new(vec![
        Box::new(MboxSource::new(Failing(Box::leak(many.into_boxed_str()).as_bytes()), None)),
        Box::new(FolderSource::open(folder.path(), Layout::Files, None).unwrap()),
    ])
    .unwrap();
    let found = subjects(|message| merged.next(message));
    assert_eq!(found.len(), 3001, "what was read before is played");
    assert_eq!(found.last().map(String::as_str), Some("last"));
    assert_eq!(merged.broken().len(), 1);
    assert_eq!(merged.skipped().of(Skip::Broken), 1);
    // From its beginning, it is not what was meant.
    assert!(Merged::new(vec![Box::new(MboxSource::new(Failing(b""), None))]).is_err());
}

#[test]
fn a_file_that_has_become_something_else_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1", "2", "3", "4"] {
        write(folder.path(), name, &dated(1, name));
    }
    let mut source = FolderSource::open(folder.path(), Layout::Files, None).unwrap();
    for name in ["1", "2", "3"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let pipe = folder.path().join("2");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    std::os::unix::fs::symlink("4", folder.path().join("3")).unwrap();
    assert_eq!(all(&mut source), ["4"]);
    assert_eq!(source.skipped().of(Skip::Unreadable), 3);
}

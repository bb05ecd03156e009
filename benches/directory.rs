//! How long 1.2 million members in 500 nested lists take to load, and how long a recipient's look-up.
//!
//! `cargo bench --bench directory -- --once chain` loads once and prints CPU time and peak memory of the process,
//! files written before included; shapes are `chain`, `tree` and `shared`.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;

use becalm::directory::settings::DirectorySettings;
use becalm::directory::{Directory, Snapshot};
use becalm::mail::address::{AddressBuf, AddressRules};
use becalm::time::Timestamp;
use criterion::{Criterion, Throughput};
use tempfile::TempDir;

const LISTS: u64 = 500;
const MEMBERS: u64 = 1_200_000;
const OWN: u64 = MEMBERS / LISTS;

/// Long after any of the files was written, so that their times are trusted.
const NOW: Timestamp = Timestamp::from_millis(10_000_000_000_000);

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Every list contains the one before and 2,400 people of its own.
    Chain,
    /// Every list contains up to 22 others and 2,400 people of its own.
    Tree,
    /// As `Chain`, but everybody is on two lists and has an alias of his own.
    Shared,
}

const SHAPES: [(&str, Shape); 3] =
    [("chain", Shape::Chain), ("tree", Shape::Tree), ("shared", Shape::Shared)];

/// Writes the files and says where they are.
fn write(dir: &Path, shape: Shape) -> std::io::Result<DirectorySettings> {
    let (aliases, virtuals) = (dir.join("aliases"), dir.join("virtual"));
    let mut entries = BufWriter::new(File::create(&aliases)?);
    let mut personal = BufWriter::new(File::create(&virtuals)?);
    for list in 0..LISTS {
        let members = dir.join(format!("members-{list}"));
        let mut file = BufWriter::new(File::create(&members)?);
        for own in 0..OWN {
            let person = list * OWN + own;
            writeln!(file, "first.last-{person}@example.com")?;
            if shape == Shape::Shared {
                writeln!(personal, "first.last-{person}@example.com u{person}@mail.example.com")?;
                // A multiplier without a divisor in common with the number: a permutation.
                writeln!(file, "first.last-{}@example.com", person * 7_919 % MEMBERS)?;
            }
        }
        file.flush()?;
        write!(entries, "list-{list}: :include:{}", members.display())?;
        let nested = match shape {
            Shape::Tree => list * 22 + 1..(list * 22 + 23).min(LISTS),
            _ => list.saturating_sub(1)..list,
        };
        for nested in nested {
            write!(entries, ",\n  list-{nested}")?;
        }
        writeln!(entries)?;
    }
    entries.flush()?;
    personal.flush()?;
    Ok(DirectorySettings { aliases: vec![aliases], virtuals: vec![virtuals], ..DirectorySettings::default() })
}

fn rules() -> AddressRules {
    AddressRules {
        myorigin: "example.com".to_owned(),
        local_domains: vec!["example.com".to_owned()],
        recipient_delimiter: [b'+'].into(),
        ..AddressRules::default()
    }
}

fn load(settings: &DirectorySettings, shape: Shape) -> Directory {
    let directory = Directory::load(settings.clone(), rules(), NOW);
    let snapshot = directory.snapshot();
    let largest = snapshot.lists().iter().map(|list| list.members).max();
    assert_eq!((snapshot.lists().len() as u64, largest), (LISTS, Some(MEMBERS)), "{:?}", snapshot.sources());
    if shape != Shape::Tree {
        assert_eq!(snapshot.lists().iter().map(|list| list.contains.len()).max(), Some(499));
    }
    directory
}

fn lookups(criterion: &mut Criterion, snapshot: &Snapshot) {
    let rules = rules();
    let mut group = criterion.benchmark_group("directory/lookup");
    group.throughput(Throughput::Elements(1));
    for (name, raw) in [
        ("a list", "list-77@example.com"),
        ("a list with extension", "list-77+x@example.com"),
        ("a person", "first.last-77@example.com"),
    ] {
        let mut buf = AddressBuf::new();
        let address = rules.canonical(raw.as_bytes(), &mut buf).expect("an address");
        group.bench_function(name, |bencher| bencher.iter(|| snapshot.lookup(black_box(&address))));
    }
    group.finish();
}

fn bench(criterion: &mut Criterion) {
    for (name, shape) in SHAPES {
        let dir = TempDir::new().expect("a directory");
        let settings = write(dir.path(), shape).expect("files");
        let mut group = criterion.benchmark_group("directory/load");
        group.sample_size(10).throughput(Throughput::Elements(MEMBERS));
        group.bench_function(name, |bencher| bencher.iter(|| load(&settings, shape)));
        group.finish();
        if shape == Shape::Chain {
            let mut directory = load(&settings, shape);
            lookups(criterion, directory.snapshot());
            criterion.bench_function("directory/refresh, 502 files, nothing new", |bencher| {
                bencher.iter(|| directory.refresh(NOW));
            });
        }
    }
}

/// User and system time of this process in hundredths of a second (proc(5)).
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn once(shape: Shape) {
    let dir = TempDir::new().expect("a directory");
    let settings = write(dir.path(), shape).expect("files");
    let before = cpu();
    let directory = load(&settings, shape);
    let spent = cpu() - before;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown").to_owned();
    println!(
        "{} lists; {}.{:02} s of CPU; {peak}",
        directory.snapshot().lists().len(),
        spent / 100,
        spent % 100
    );
}

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    let asked =
        arguments.iter().position(|argument| argument == "--once").and_then(|at| arguments.get(at + 1));
    if let Some(asked) = asked {
        let shape = SHAPES.iter().find(|(name, _)| name == asked).expect("chain, tree or shared");
        return once(shape.1);
    }
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}

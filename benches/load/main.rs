//! becalm under load, against filters that judge nothing: `cargo bench --bench load`.
//!
//! ```text
//! generator (plays Postfix, this process) ── unix socket ──▶ one filter at a time, each a process of its own:
//!                                                            bare tokio | becalm | libmilter's C no-op
//! ```
//!
//! The filters of a case take turns, again and again, and each ratio is of two turns of one round: what the
//! machine does meanwhile hits both. `benches/README.md` says how to read the result.
#![forbid(unsafe_code)]

mod filters;
mod report;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use becalm::load::bare::{self, Bare, Listener, Runtime};
use becalm::load::process::own_cpu;
use becalm::load::{End, Generator, Load, Mix, Shape};
use becalm::milter::mta::Profile;

use filters::{Running, Which, Workshop};
use report::{Answers, Row, Table, Turn};

/// The list that storms; `becalm.toml` in `filters.rs` knows it.
const STORM_LIST: &str = "everybody@example.org";

/// A filter that says nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures becalm against bare filters, in turns.
#[derive(Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
struct Options {
    /// Only cases whose name contains one of these: ordinary-1, ordinary-500, storm, session.
    cases: Vec<String>,
    /// Rounds; in each, every filter has one turn.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Length of a turn in milliseconds (in the case storm a fifth of it).
    #[arg(long, default_value_t = 1000)]
    turn: u64,
    /// Connections at once, instead of each case's own; may be repeated.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Messages in a session (not in the case that has one).
    #[arg(long, default_value_t = 100)]
    session: u64,
    /// Passed by cargo bench. Without it (cargo test) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be a bare filter.
    #[arg(long, hide = true, requires = "runtime", requires = "socket")]
    serve: Option<Bare>,
    #[arg(long, hide = true)]
    runtime: Option<Runtime>,
    #[arg(long, hide = true)]
    socket: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (&options.serve, &options.runtime, &options.socket) {
        (Some(bare), Some(runtime), Some(socket)) => {
            let listener = UnixListener::bind(socket).map(Listener::Unix);
            listener.and_then(|listener| bare::serve(*bare, *runtime, listener)).map(|never| match never {})
        }
        _ if options.bench => measure(&options),
        _ => {
            println!("nothing is measured without --bench: use cargo bench --bench load");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One kind of mail, sent in one way, to several filters.
struct Case {
    name: &'static str,
    title: &'static str,
    mix: Mix,
    recipients: usize,
    /// None: as the options say.
    messages_per_session: Option<u64>,
    /// Its turns are so many times shorter than the options say.
    shorter: u32,
    connections: &'static [usize],
    filters: Vec<Which>,
    goals: Vec<Goal>,
}

/// What becalm promises.
struct Goal {
    of: Which,
    against: Against,
    quantity: Quantity,
}

#[derive(Clone, Copy)]
enum Against {
    Bare,
    Libmilter,
}

#[derive(Clone, Copy)]
enum Quantity {
    RateAtLeast(f64),
    CpuAtMost(f64),
}

const BECALM: Which = Which::Becalm { many_recipients: None };

/// Above what Postfix takes in one transaction (`smtpd_recipient_limit` = 1000): no number makes mail watched.
const BECALM_UNWATCHED: Which = Which::Becalm { many_recipients: Some(1_001) };

fn cases() -> Vec<Case> {
    use Against::{Bare as AgainstBare, Libmilter as AgainstLibmilter};
    use Quantity::{CpuAtMost, RateAtLeast};
    let bare = |bare| [Which::Bare(bare, Runtime::Shared), Which::Bare(bare, Runtime::PerThread)];
    let with = |first: [Which; 2], others: &[Which]| first.iter().chain(others).copied().collect::<Vec<_>>();
    let goal = |of, against, quantity| Goal { of, against, quantity };
    vec![
        Case {
            name: "ordinary-1",
            title: "Ordinary mail, 1 recipient",
            mix: Mix::Ordinary,
            recipients: 1,
            messages_per_session: None,
            shorter: 1,
            connections: &[1, 2, 8],
            filters: with(bare(Bare::Data), &[BECALM, Which::Libmilter]),
            goals: vec![
                goal(BECALM, AgainstBare, RateAtLeast(0.8)),
                goal(BECALM, AgainstBare, CpuAtMost(1.5)),
                goal(BECALM, AgainstLibmilter, RateAtLeast(20.0)),
            ],
        },
        Case {
            name: "ordinary-500",
            title: "Ordinary mail, 500 recipients",
            mix: Mix::Ordinary,
            recipients: 500,
            messages_per_session: None,
            shorter: 1,
            connections: &[1, 8],
            filters: with(bare(Bare::Data), &[BECALM_UNWATCHED, BECALM, Which::Libmilter]),
            goals: vec![
                goal(BECALM_UNWATCHED, AgainstBare, RateAtLeast(0.6)),
                goal(BECALM, AgainstBare, RateAtLeast(0.6)),
                goal(BECALM, AgainstLibmilter, RateAtLeast(20.0)),
            ],
        },
        Case {
            name: "storm",
            title: "Replies to a list of 840,000 in a storm, each of them held",
            mix: Mix::Storm,
            recipients: 1,
            messages_per_session: None,
            // All that it sends is on hold in the end, and no more can be than `filters.rs` allows.
            shorter: 5,
            connections: &[1, 8],
            filters: with(bare(Bare::Headers), &[Which::Bare(Bare::Hold, Runtime::PerThread), BECALM]),
            goals: vec![goal(BECALM, AgainstBare, RateAtLeast(0.6))],
        },
        Case {
            name: "session",
            title: "Ordinary mail, 1 recipient, a session for each message",
            mix: Mix::Ordinary,
            recipients: 1,
            messages_per_session: Some(1),
            shorter: 1,
            connections: &[1, 8],
            filters: with(bare(Bare::Data), &[BECALM]),
            goals: vec![],
        },
    ]
}

fn measure(options: &Options) -> io::Result<()> {
    let workshop = Workshop::open()?;
    let cores = std::thread::available_parallelism()?;
    println!(
        "{} rounds of {} ms a turn; {cores} cores, which the load generator shares with the filter.",
        options.rounds, options.turn
    );
    println!("Ratios are to the bare filter with the most messages/s: median (quartiles) of the rounds.");
    println!(
        "Figures that are no ratios are this machine's at this moment: do not compare them between runs."
    );
    if let Some(why) = workshop.without_libmilter() {
        println!("\nLIBMILTER IS MISSING from all tables (packages gcc and libmilter-dev are needed): {why}");
    }
    let mut verdicts = Vec::new();
    for mut case in cases() {
        if !options.cases.is_empty() && !options.cases.iter().any(|part| case.name.contains(part)) {
            continue;
        }
        if workshop.without_libmilter().is_some() {
            case.filters.retain(|which| *which != Which::Libmilter);
        }
        let tables = run(&case, options, &workshop)?;
        for (_, table) in &tables {
            table.print();
        }
        verdicts.extend(case.goals.iter().map(|goal| judge(&case, goal, &tables)));
    }
    println!("\nGoals");
    for verdict in verdicts {
        println!("  {verdict}");
    }
    Ok(())
}

/// One table for each number of connections.
fn run(case: &Case, options: &Options, workshop: &Workshop) -> io::Result<Vec<(usize, Table)>> {
    let numbers = if options.connections.is_empty() { case.connections } else { &options.connections };
    numbers.iter().map(|&number| Ok((number, play(case, number, options, workshop)?))).collect()
}

/// By filters that have just been started: what earlier cases have put on hold is none of this one's.
fn play(case: &Case, connections: usize, options: &Options, workshop: &Workshop) -> io::Result<Table> {
    let running = case.filters.iter().map(|which| workshop.start(*which)).collect::<io::Result<Vec<_>>>()?;
    let generators = running
        .iter()
        .map(|filter| {
            let (mix, recipients, list) = (case.mix, case.recipients, STORM_LIST.to_owned());
            let shape = Shape { mix, recipients, list, ..Shape::default() };
            Generator::new(filter.address.clone(), Profile::postfix(), &shape, PATIENCE, 1)
                .map_err(io::Error::other)
        })
        .collect::<io::Result<Vec<_>>>()?;
    let filters: Vec<_> = running.iter().zip(&generators).collect();
    let load = |connections| Load {
        connections,
        messages_per_session: case.messages_per_session.unwrap_or(options.session),
        rate: None,
        end: End::After(Duration::from_millis(options.turn) / case.shorter),
    };
    for (filter, generator) in &filters {
        turn(filter, generator, load(2))?;
    }
    let row = |(filter, _): &(&Running, &Generator)| Row {
        which: filter.which,
        turns: Vec::new(),
        answers: Answers::default(),
        memory: Default::default(),
    };
    let mut rows: Vec<Row> = filters.iter().map(row).collect();
    for round in 0..options.rounds {
        let mut order: Vec<_> = filters.iter().zip(&mut rows).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for ((filter, generator), row) in order {
            let (turn, answers) = turn(filter, generator, load(connections))?;
            row.turns.push(turn);
            row.answers.add(answers);
        }
    }
    for ((filter, _), row) in filters.iter().zip(&mut rows) {
        row.memory = filter.memory()?;
    }
    Ok(Table { title: format!("{}, {connections} connection(s)  [{}]", case.title, case.name), rows })
}

fn turn(filter: &Running, generator: &Generator, load: Load) -> io::Result<(Turn, Answers)> {
    let before = (filter.cpu()?, own_cpu());
    let (outcome, failure) = generator.run(load, |_, _| {});
    if let Some(error) = failure {
        return Err(io::Error::other(format!("{}: {error}\n{}", filter.which.name(), filter.last_words())));
    }
    let cpu = filter.cpu()?.saturating_sub(before.0);
    let own_cpu = own_cpu().saturating_sub(before.1);
    let answers =
        Answers { messages: outcome.messages, headers_read: outcome.headers_read, held: outcome.held };
    Ok((Turn::new(outcome.messages, outcome.elapsed, cpu, own_cpu), answers))
}

fn judge(case: &Case, goal: &Goal, tables: &[(usize, Table)]) -> String {
    let (quantity, against) = match (goal.quantity, goal.against) {
        (Quantity::RateAtLeast(least), Against::Bare) => {
            (format!("messages/s at least {least}"), "bare tokio")
        }
        (Quantity::RateAtLeast(least), Against::Libmilter) => {
            (format!("messages/s at least {least}"), "libmilter")
        }
        (Quantity::CpuAtMost(most), _) => (format!("CPU a message at most {most}"), "bare tokio"),
    };
    let mut met = true;
    let mut found = Vec::new();
    for (connections, table) in tables {
        let base = match goal.against {
            Against::Bare => table.base(),
            Against::Libmilter => table.row(|which| which == Which::Libmilter),
        };
        let (Some(own), Some(base)) = (table.row(|which| which == goal.of), base) else { continue };
        let ratio = match goal.quantity {
            Quantity::RateAtLeast(_) => own.rates_by(base),
            Quantity::CpuAtMost(_) => own.cpus_by(base),
        };
        let Some(ratio) = ratio else { continue };
        let good = match goal.quantity {
            Quantity::RateAtLeast(least) => ratio.median >= least,
            Quantity::CpuAtMost(most) => ratio.median <= most,
        };
        met &= good;
        found.push(format!("{ratio} at {connections}"));
    }
    let verdict = match (found.is_empty(), met) {
        (true, _) => "not measured",
        (_, true) => "met",
        (_, false) => "MISSED",
    };
    format!("{verdict:<12} {}: {}, {quantity} of {against}: {}", case.name, goal.of.name(), found.join(", "))
}

//! `becalm top`: what is going on, live in a terminal.
//!
//! ```text
//! asker (a thread) ──what the daemon says, once a second──▶ view ──lines──▶ screen ◀── keys
//! ```

mod screen;
mod view;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Args;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::ask::AskArgs;
use crate::admin::api::{Reply, Request};
use crate::admin::client::{self, AskError};
use crate::clock::Stopwatch;
use screen::Screen;
use view::{PANELS, Sample, View};

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long a key, a signal or an answer waits to be noticed at most.
const NOTICE: Duration = Duration::from_millis(100);

/// The size of a frame without a terminal, in characters.
const SIZE: (u16, u16) = (80, 24);

/// Shows what is going on, live.
#[derive(Args, Debug)]
#[command(
    after_help = "Keys: q or Esc quits, p pauses, Tab moves to the next panel, the arrows scroll in it."
)]
pub struct TopArgs {
    /// Print one frame of 80 by 24, after a second, and end; needs no terminal.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Shows it until `q`. Exit codes: 0, or 1 where the daemon cannot be asked (`--once`) or there is no terminal.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let socket = args.ask.socket()?;
    let watch = Stopwatch::start();
    if args.once {
        let mut view = View::default();
        view.take(Ok(ask(&socket, &watch)?));
        // Rates are what happens between two answers.
        std::thread::sleep(EVERY);
        view.take(Ok(ask(&socket, &watch)?));
        let lines = view.frame(SIZE.0.into(), SIZE.1.into());
        let lines: Vec<_> = lines.iter().map(|(_, text)| text.trim_end()).collect();
        super::print(&(lines.join("\n") + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    live(socket, watch)?;
    Ok(ExitCode::SUCCESS)
}

fn live(socket: PathBuf, watch: Stopwatch) -> anyhow::Result<()> {
    let ended = end_on_signals()?;
    // The asker waits where nobody takes what it has: one answer, and no more, is kept.
    let (sender, answers) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        loop {
            if sender.send(ask(&socket, &watch).map_err(|error| error.to_string())).is_err() {
                return;
            }
            std::thread::sleep(EVERY);
        }
    });
    let mut screen = Screen::open(super::color())?;
    let mut view = View::default();
    screen.show(&view)?;
    while !ended.load(Ordering::Relaxed) {
        let mut changed = false;
        if event::poll(NOTICE)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match pressed(&mut view, key) {
                    Pressed::Quit => break,
                    Pressed::Other => changed = true,
                },
                Event::Resize(..) => changed = true,
                _ => {}
            }
        }
        while let Ok(said) = answers.try_recv() {
            if !view.paused {
                view.take(said);
                changed = true;
            }
        }
        if changed {
            screen.show(&view)?;
        }
    }
    Ok(())
}

enum Pressed {
    Quit,
    Other,
}

fn pressed(view: &mut View, key: KeyEvent) -> Pressed {
    let rows = view.rows();
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
        // In raw mode it is a key, and no signal.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Pressed::Quit,
        KeyCode::Char('p') => view.paused = !view.paused,
        KeyCode::Tab | KeyCode::Right => view.focus = (view.focus + 1) % PANELS,
        KeyCode::BackTab | KeyCode::Left => view.focus = (view.focus + PANELS - 1) % PANELS,
        code @ (KeyCode::Up | KeyCode::Down) => {
            let last = rows.get(view.focus).copied().unwrap_or(0).saturating_sub(1);
            if let Some(scroll) = view.scroll.get_mut(view.focus) {
                *scroll = match code {
                    KeyCode::Up => scroll.saturating_sub(1),
                    _ => scroll.saturating_add(1),
                };
                *scroll = (*scroll).min(last);
            }
        }
        _ => {}
    }
    Pressed::Other
}

/// What the daemon says now.
fn ask(socket: &Path, watch: &Stopwatch) -> Result<Sample, AskError> {
    let odd = || AskError::Garbled("it answers something else than was asked".to_owned());
    let Reply::Status(status) = client::ask(socket, &Request::Status {})? else { return Err(odd()) };
    let Reply::Storms(storms) = client::ask(socket, &Request::Storms {})? else { return Err(odd()) };
    let near = client::near(socket)?;
    Ok(Sample { at: watch.elapsed(), status: *status, storms, near })
}

/// Set by SIGTERM, SIGINT and SIGHUP: the terminal is to be left as it was.
fn end_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    let [terminate, interrupt, hangup] = signals;
    let (mut terminate, mut interrupt, mut hangup) = (terminate?, interrupt?, hangup?);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    });
    Ok(ended)
}

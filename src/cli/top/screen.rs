//! The terminal, and that it is left as it was.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use super::SIZE;
use super::view::{Look, View};

/// Whether the terminal is ours at present.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it shows the view; dropped, it is as it was.
pub(super) struct Screen {
    color: bool,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it is told.
    pub(super) fn open(color: bool) -> anyhow::Result<Self> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            bail!("this needs a terminal; `becalm top --once` prints one frame without");
        }
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            earlier(panic);
        }));
        TAKEN.store(true, Ordering::Release);
        let screen = Self { color };
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Draws.
    pub(super) fn show(&mut self, view: &View) -> io::Result<()> {
        let (width, height) = size().unwrap_or(SIZE);
        // Locked and buffered: one write, so that nothing flickers.
        let mut out = io::BufWriter::new(io::stdout().lock());
        for (row, (look, text)) in (0..height).zip(view.frame(width.into(), height.into())) {
            queue!(out, MoveTo(0, row))?;
            match look {
                Look::Plain => {}
                Look::Title => queue!(out, SetAttribute(Attribute::Bold))?,
                Look::Faint => queue!(out, SetAttribute(Attribute::Dim))?,
                Look::Alarm if self.color => {
                    queue!(out, SetAttribute(Attribute::Bold), SetForegroundColor(Color::Red))?;
                }
                Look::Alarm => queue!(out, SetAttribute(Attribute::Bold))?,
            }
            queue!(out, Print(text), SetAttribute(Attribute::Reset))?;
            if self.color {
                queue!(out, ResetColor)?;
            }
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Once, whoever comes first. Where it fails there is no terminal any more.
fn restore() {
    if TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

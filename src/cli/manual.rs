//! `becalm man` and `becalm completions`: from the definition of the command line, and from the documentation of
//! the configuration, so that they cannot differ from either.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::config::DEFAULT_TEXT;

/// Arguments of `becalm man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Write all pages into this folder, as man1/*.1 and man5/*.5. Without it, becalm(1) is printed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Arguments of `becalm completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes or prints the pages.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let pages = pages()?;
    let Some(folder) = &args.dir else {
        let first = pages.first().map(|page| page.text.as_str()).unwrap_or_default();
        super::print(first)?;
        return Ok(ExitCode::SUCCESS);
    };
    for page in &pages {
        let path =
            folder.join(format!("man{}", page.section)).join(format!("{}.{}", page.name, page.section));
        let write = |path: &Path| {
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            std::fs::write(path, &page.text)
        };
        write(&path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the script.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "becalm", &mut script);
    super::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

struct Page {
    name: String,
    section: u8,
    text: String,
}

/// All of them, becalm(1) first.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut program = Cli::command();
    program.build();
    let mut pages = Vec::new();
    of_command(&program, "becalm", &mut pages)?;
    pages.push(Page { name: "becalm.toml".to_owned(), section: 5, text: of_configuration() });
    Ok(pages)
}

/// The page of a command, and those of the commands below it. Hidden ones have none.
fn of_command(command: &clap::Command, name: &str, pages: &mut Vec<Page>) -> anyhow::Result<()> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .manual("becalm")
        .source(concat!("becalm ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)?;
    pages.push(Page { name: name.to_owned(), section: 1, text: String::from_utf8(text)? });
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        of_command(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

/// becalm.toml(5): the comments as text, the settings as they are, section by section.
fn of_configuration() -> String {
    let mut page = format!(
        ".TH becalm.toml 5 \"\" \"becalm {}\" \"becalm\"\n.SH NAME\nbecalm.toml \\- configuration of becalm\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    // Whether the last line was an example, whose lines stay as they are.
    let mut literal = false;
    let mut close = |page: &mut String, wanted: bool| {
        match (literal, wanted) {
            (true, false) => page.push_str(".fi\n.RE\n"),
            (false, true) => page.push_str(".RS 4\n.nf\n"),
            _ => {}
        }
        literal = wanted;
    };
    for line in DEFAULT_TEXT.lines() {
        let comment = line.strip_prefix("# ");
        if line.trim().is_empty() || line == "#" {
            close(&mut page, false);
            page.push_str(".PP\n");
        } else if let Some(indented) = comment.filter(|text| text.starts_with("  ")) {
            close(&mut page, true);
            page.push_str(&roff(indented.trim_start()));
        } else if let Some(text) = comment {
            close(&mut page, false);
            page.push_str(&roff(text));
        } else {
            let bare = line.strip_prefix('#').unwrap_or(line);
            match bare.strip_prefix('[') {
                Some(_) => {
                    close(&mut page, false);
                    page.push_str(&format!(".SH \"{}\"\n", roff(bare).trim_end()));
                }
                None => {
                    close(&mut page, true);
                    page.push_str(&format!("\\fB{}\\fR\n", roff(line).trim_end()));
                }
            }
        }
    }
    close(&mut page, false);
    page.push_str(".SH SEE ALSO\n\\fBbecalm\\fR(1), \\fBbecalm\\-check\\fR(1), \\fBpostconf\\fR(5)\n");
    // A paragraph before a heading, or after another, is nothing.
    while page.contains(".PP\n.PP\n") || page.contains(".PP\n.SH") {
        page = page.replace(".PP\n.PP\n", ".PP\n").replace(".PP\n.SH", ".SH");
    }
    page
}

/// A line of text, as troff wants it.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('~', "\\(ti").replace('^', "\\(ha");
    let text = text.replace('`', "\\(ga").replace('"', "\\(dq").replace('\'', "\\(aq");
    // A line that begins with a dot is a command.
    match text.starts_with('.') {
        true => format!("\\&{text}\n"),
        false => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(page: &str) -> String {
        page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "")
    }

    fn every_command<'a>(
        command: &'a clap::Command,
        name: String,
        all: &mut Vec<(String, &'a clap::Command)>,
    ) {
        all.push((name.clone(), command));
        for below in
            command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
        {
            every_command(below, format!("{name}-{}", below.get_name()), all);
        }
    }

    #[test]
    fn every_command_and_option_has_its_place() {
        let mut program = Cli::command();
        program.build();
        let mut all = Vec::new();
        every_command(&program, "becalm".to_owned(), &mut all);
        let pages = pages().unwrap();
        assert_eq!(pages.len(), all.len() + 1);
        assert!(all.len() > 20, "{}", all.len());
        let scripts: Vec<String> = [Shell::Bash, Shell::Fish, Shell::Zsh]
            .map(|shell| {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "becalm", &mut script);
                String::from_utf8(script).unwrap()
            })
            .into();
        for (name, command) in all {
            let page =
                pages.iter().find(|page| page.name == name).unwrap_or_else(|| panic!("no page {name}"));
            let text = plain(&page.text);
            let own = command.get_name();
            for script in &scripts {
                assert!(script.contains(own), "{own}");
            }
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    assert!(text.contains(&format!("--{long}")), "{name}: --{long}\n{text}");
                    for script in &scripts {
                        assert!(script.contains(long), "{long}");
                    }
                } else if let Some(value) = option.get_value_names().and_then(|names| names.first()) {
                    assert!(text.contains(value.as_str()), "{name}: {value}\n{text}");
                }
            }
        }
    }

    #[test]
    fn every_setting_is_in_the_page_of_the_configuration() {
        let page = plain(&of_configuration()).replace("\\(dq", "\"");
        for line in DEFAULT_TEXT.lines().filter(|line| !line.starts_with("# ") && !line.trim().is_empty()) {
            let name = line.split(['=', ' ']).next().unwrap_or_default().trim_start_matches('#');
            assert!(page.contains(name), "{line}");
        }
    }

    /// Nothing that groff would not understand.
    #[test]
    fn the_pages_are_clean() {
        for page in pages().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("page");
            std::fs::write(&file, &page.text).unwrap();
            let output = std::process::Command::new("groff")
                .args(["-man", "-Tutf8", "-ww", "-z", "-rLL=100n"])
                .arg(&file)
                .output()
                .expect("groff can be run: apt-get install groff, or use tests/run");
            let said = String::from_utf8_lossy(&output.stderr);
            // Where a long word makes a line hard to fill.
            let said: Vec<&str> = said
                .lines()
                .filter(|line| !line.contains("cannot adjust line") && !line.contains("can't break line"))
                .collect();
            assert!(output.status.success() && said.is_empty(), "{}: {said:?}", page.name);
        }
    }
}

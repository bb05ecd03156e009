//! The text of `becalm config --default`: every setting with its documentation, and the value that holds where the
//! file says nothing. The tests below are why it can be believed.

/// A complete configuration file: all settings, at their defaults, with their documentation.
pub const DEFAULT_TEXT: &str = include_str!("default.toml");

#[cfg(test)]
mod tests {
    use super::super::file::parse_knowing;
    use super::super::{Config, Severity};
    use super::DEFAULT_TEXT;

    /// The text with its examples (`#key = value`, `#[section]`) brought to life.
    fn with_examples() -> String {
        let live = |line: &str| {
            line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).map(str::to_owned)
        };
        DEFAULT_TEXT.lines().map(|line| live(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
    }

    #[test]
    fn the_text_is_what_the_program_uses() {
        let (config, report, _) = parse_knowing("default.toml", DEFAULT_TEXT);
        assert!(report.diagnostics.is_empty(), "{}", report.render(false));
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_examples_in_it_are_valid() {
        let (_, report, _) = parse_knowing("default.toml", &with_examples());
        let errors = report.diagnostics.iter().any(|found| found.severity != Severity::Ok);
        assert!(!errors, "{}", report.render(false));
    }

    #[test]
    fn every_setting_is_in_it() {
        let (_, _, known) = parse_knowing("default.toml", &with_examples());
        assert!(known.len() > 60, "the reader remembers what it looked for: {}", known.len());
        // What a class and a list share with `storm` and `verdict` is documented there.
        let shared = |path: &str| {
            let key = path.strip_prefix("class.NAME.").or_else(|| path.strip_prefix("list."));
            key.is_some_and(|key| {
                known.iter().any(|known| {
                    known.present
                        && (known.path == format!("storm.{key}") || known.path == format!("verdict.{key}"))
                })
            })
        };
        let missing: Vec<_> = known
            .iter()
            .filter(|known| !known.present && !shared(&known.path))
            .map(|known| known.path.as_str())
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn the_ranges_it_names_are_those_enforced() {
        let text = with_examples();
        let (_, _, known) = parse_knowing("default.toml", &text);
        for known in known.iter().filter(|known| known.present && known.range.contains(" to ")) {
            let (section, key) = known.path.rsplit_once('.').unwrap();
            if matches!(section, "class.NAME" | "limits.author" | "limits.organisation") {
                continue;
            }
            let documentation = documentation_of(section, key);
            assert!(documentation.contains(&known.range), "{}: {}\n{documentation}", known.path, known.range);
        }
    }

    /// The comment above `key` in its section.
    fn documentation_of(section: &str, key: &str) -> String {
        let mut comment = String::new();
        let mut inside = false;
        for line in DEFAULT_TEXT.lines() {
            let bare = line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line);
            if bare.starts_with('[') {
                inside = bare.trim_matches(['[', ']']) == section;
            }
            if inside && bare.split('=').next().is_some_and(|name| name.trim() == key) {
                return comment;
            }
            match line.strip_prefix("# ") {
                Some(text) => comment.push_str(&format!("{text} ")),
                None => comment.clear(),
            }
        }
        panic!("`{section}.{key}` is not documented");
    }
}

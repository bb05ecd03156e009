//! The sections that say how lists are judged: `[verdict]`, `[storm]`, `[class.NAME]` and `[[list]]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::diagnostic::{Diagnostic, did_you_mean, line_column};
use super::policies::{Entry, Override, contradictions, with};
use super::reader::{Notes, Section, Value};
use super::value::{self, days, hours, minutes};
use super::{Config, Policies};
use crate::directory::settings::ConfiguredList;
use crate::mail::address::AddressRules;
use crate::storm::policy::{Mode, Policy, SuspicionAction};

/// The names of the modes.
pub(super) const MODES: [(&str, Mode); 6] = [
    ("observe", Mode::Observe),
    ("hold", Mode::Hold),
    ("reject", Mode::Reject),
    ("defer", Mode::Defer),
    ("discard", Mode::Discard),
    ("strip", Mode::Strip),
];
const SUSPICIONS: [(&str, SuspicionAction); 3] =
    [("hold", SuspicionAction::Hold), ("defer", SuspicionAction::Defer), ("pass", SuspicionAction::Pass)];

/// Which file is read, for the origin of its lists.
pub(super) struct Place<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

/// `[verdict]` and `[storm]`.
pub(super) fn default_policy(mut verdicts: Section<'_, '_>, mut storm: Section<'_, '_>) -> Policy {
    let policy = with(Policy::default(), &verdict(&mut verdicts));
    let policy = with(policy, &thresholds(&mut storm));
    refuse_contradictions(&policy, &storm, "");
    verdicts.finish();
    storm.finish();
    policy
}

/// `[class.NAME]`.
pub(super) fn classes(
    notes: &Notes,
    mut section: Section<'_, '_>,
    default: &Policy,
) -> BTreeMap<String, Vec<Override>> {
    let mut classes = BTreeMap::new();
    let sound = contradictions(default).is_empty();
    for (name, span, value) in section.entries() {
        let mut class = Section::of(notes, "class.NAME", Some(value));
        let mut overrides = verdict(&mut class);
        overrides.extend(thresholds(&mut class));
        if sound {
            refuse_contradictions(&with(default.clone(), &overrides), &class, "");
        }
        class.finish();
        match value::name(name) {
            Ok(name) => drop(classes.insert(name, overrides)),
            Err(problem) => notes.push(Diagnostic::error(span, problem.message).help(problem.help)),
        }
    }
    classes
}

/// `[[list]]`: into the policies and the directory of `config`, whose classes and addresses are read already.
pub(super) fn lists(notes: &Notes, value: Option<&Value<'_>>, place: &Place<'_>, config: &mut Config) {
    let Some(value) = value else { return };
    let DeValue::Array(entries) = value.get_ref() else {
        let help = "write `[[list]]`, once for every list";
        notes.push(Diagnostic::error(value.span(), "`list` is an array of tables").help(help));
        return;
    };
    let mut first_lines: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries.iter() {
        list(notes, entry, place, config, &mut first_lines);
    }
}

/// The numbers of the rule, as the default, a class or a list sets them.
fn thresholds(section: &mut Section<'_, '_>) -> Vec<Override> {
    const YEAR: Duration = days(365);
    [
        section.count("budget", 1..=1_000_000_000_000).map(Override::Budget),
        section.count("free", 1..=20).map(Override::Free),
        section.count("storm_min", 2..=20).map(Override::StormMin),
        section.count("max", 2..=20).map(Override::Max),
        section.duration("window", minutes(1)..=hours(24)).map(Override::Window),
        section.duration("delay", Duration::ZERO..=hours(24)).map(Override::Delay),
        section.duration("quiet", minutes(1)..=hours(24)).map(Override::Quiet),
        section.duration("cooling", Duration::ZERO..=days(30)).map(Override::Cooling),
        section.count("list_factor", 1..=1000).map(Override::ListFactor),
        section.count("automatic_max", 0..=5).map(Override::AutomaticMax),
        section.duration("known_after", Duration::ZERO..=days(90)).map(Override::KnownAfter),
        section.duration("known_for", days(1)..=YEAR).map(Override::KnownFor),
        section.duration("history", Duration::ZERO..=YEAR).map(Override::History),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What is done with the mail of a storm, as the default, a class or a list sets it.
fn verdict(section: &mut Section<'_, '_>) -> Vec<Override> {
    const TEMPLATE: &str = "one line of ASCII, at most 400 bytes";
    let mode = section.choice("mode", &MODES);
    if mode == Some(Mode::Discard) {
        let help = "\"hold\" keeps the mail until somebody decides";
        section.warn("mode", "\"discard\" throws mail away and nobody is told", help);
    }
    [
        mode.map(Override::Mode),
        section.choice("suspicion", &SUSPICIONS).map(Override::Suspicion),
        section.flag("never_hold").map(Override::NeverHold),
        section.text("reject_text", TEMPLATE, value::template).map(Override::RejectText),
        section.text("defer_text", TEMPLATE, value::template).map(Override::DeferText),
        section.text("limit_text", TEMPLATE, value::template).map(Override::LimitText),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Notes contradictions of `policy` at the first of their keys that `section` sets; false where there are some.
fn refuse_contradictions(policy: &Policy, section: &Section<'_, '_>, context: &str) -> bool {
    let found = contradictions(policy);
    for (keys, message, help) in &found {
        let key = keys.iter().find(|key| section.has(key)).copied().unwrap_or_default();
        section.error(key, format!("{message}{context}"), *help);
    }
    found.is_empty()
}

fn list(
    notes: &Notes,
    value: &Value<'_>,
    place: &Place<'_>,
    config: &mut Config,
    first_lines: &mut BTreeMap<String, usize>,
) {
    let mut section = Section::of(notes, "list", Some(value));
    if !section.exists() {
        return;
    }
    let address =
        section.text("address", "an address, or a pattern with `*`", |text| value::mail_address(text, true));
    let members = section.count("members", 0..=1_000_000_000);
    let class = section.text("class", "name of a [class.NAME]", value::name);
    let public_name = section.text("public_name", "1 to 100 characters", value::public_name);
    let mut overrides = verdict(&mut section);
    overrides.extend(thresholds(&mut section));
    check_class(&section, class.as_deref(), &config.policies);
    check_entry(&section, class.as_deref(), &overrides, &config.policies);
    let span = section.span();
    let given = section.has("address");
    // A setting that is refused has its own remark: something was said.
    let says_nothing = section.has_only("address");
    let at = section.span_of("address");
    section.finish();
    let Some(address) = address else {
        if !given {
            let found = Diagnostic::error(span, "this list has no address");
            notes.push(found.help("add `address = \"local@domain\"`"));
        }
        return;
    };
    let address = as_delivered(&config.addresses, address);
    let (line, _) = line_column(place.text, span.start);
    if let Some(first) = first_lines.insert(address.clone(), line) {
        let found = Diagnostic::error(at, format!("`{address}` is named already in line {first}"));
        notes.push(found.help("keep one `[[list]]` for every address"));
        return;
    }
    if says_nothing {
        let found = Diagnostic::warning(at, format!("nothing is said about `{address}`"));
        notes.push(found.help("add `members`, `class` or settings of [verdict] and [storm]"));
    }
    if let Some(members) = members {
        let file =
            Path::new(place.file).file_name().map_or_else(Default::default, |name| name.to_string_lossy());
        let origin = format!("{file}:{line}");
        config.directory.lists.push(ConfiguredList {
            address: address.clone(),
            members,
            class: class.clone(),
            origin,
        });
    }
    let entry = Entry { class, overrides, public_name };
    if address.contains('*') {
        config.policies.patterns.push((address, entry));
    } else {
        config.policies.exact.insert(address, entry);
    }
}

fn check_class(section: &Section<'_, '_>, class: Option<&str>, policies: &Policies) {
    let Some(class) = class else { return };
    if policies.classes.contains_key(class) {
        return;
    }
    let help = match did_you_mean(class, policies.classes.keys().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("add a section `[class.{class}]`, or leave `class` out"),
    };
    section.error("class", format!("there is no class `{class}`"), help);
}

/// An entry must fit the default, its class, and where it names none, every class a source may give its lists.
fn check_entry(section: &Section<'_, '_>, class: Option<&str>, overrides: &[Override], policies: &Policies) {
    if !contradictions(&policies.default).is_empty() {
        return;
    }
    if class.is_none() && !refuse_contradictions(&with(policies.default.clone(), overrides), section, "") {
        return;
    }
    for (name, of_class) in &policies.classes {
        if class.is_some_and(|class| class != name) {
            continue;
        }
        let of_class = with(policies.default.clone(), of_class);
        let sound = contradictions(&of_class).is_empty();
        if sound
            && !refuse_contradictions(&with(of_class, overrides), section, &format!(" of class `{name}`"))
        {
            return;
        }
    }
}

/// The address (in lower case) as the directory will know it: completed and with its real domain.
fn as_delivered(rules: &AddressRules, address: String) -> String {
    let (local, domain) = match address.rsplit_once('@') {
        Some((local, domain)) => (local, domain),
        None if rules.myorigin.is_empty() => return address,
        None => (address.as_str(), rules.myorigin.as_str()),
    };
    let real = rules.domain_aliases.get(domain).map_or(domain, String::as_str);
    let local_domain = rules.local_domains.iter().any(|known| known == real);
    let real = rules.local_domains.first().filter(|_| local_domain).map_or(real, String::as_str);
    format!("{local}@{real}")
}

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::content::{Allowance, Builder, hash};
use super::super::parse::aliases::Aliases;
use super::super::parse::include;
use super::super::parse::virtuals::Virtuals;
use super::*;
use crate::mail::address::AddressRules;

fn rules() -> AddressRules {
    AddressRules {
        myorigin: "x".to_owned(),
        local_domains: vec!["x".to_owned()],
        recipient_delimiter: [b'+'].into(),
        ..AddressRules::default()
    }
}

fn read(format: Format, text: &str) -> Content {
    let rules = rules();
    let mut builder = Builder::new(&rules, format, Allowance::SOURCE);
    let (mut aliases, mut virtuals) = (Aliases::default(), Virtuals::default());
    for (number, line) in (1..).zip(text.lines()) {
        match format {
            Format::Aliases => aliases.line(number, line.as_bytes(), &mut builder),
            Format::Virtual => virtuals.line(number, line.as_bytes(), &mut builder),
            Format::Include => include::line(number, line.as_bytes(), &mut builder),
        }
    }
    builder.finish()
}

fn configured(address: &str, members: u64) -> Configured {
    let list = List {
        address: address.to_owned(),
        names: Vec::new(),
        members,
        class: Some("c".to_owned()),
        origin: "becalm.toml:1".to_owned(),
        contains: Vec::new(),
        pattern: address.contains('*'),
    };
    Configured { key: hash(address.as_bytes()), list }
}

/// `address members: contained…`, one line each.
fn show(resolved: &Resolved) -> Vec<String> {
    let name = |id: &ListId| resolved.lists[id.index()].address.as_str();
    let line = |list: &List| {
        let contains = list.contains.iter().map(name).collect::<Vec<_>>().join(" ");
        format!("{} {}: {contains}", list.address, list.members)
    };
    resolved.lists.iter().map(line).collect()
}

fn resolve_texts(
    configured: &[Configured],
    aliases: &[&str],
    virtuals: &[&str],
    includes: &[(&str, &str)],
    min_members: u64,
) -> Resolved {
    let included =
        includes.iter().map(|(path, text)| (*path, read(Format::Include, text))).collect::<Vec<_>>();
    let included = included.iter().map(|(path, content)| (Path::new(*path), content)).collect::<Vec<_>>();
    let aliases = aliases.iter().map(|text| (Format::Aliases, read(Format::Aliases, text)));
    let virtuals = virtuals.iter().map(|text| (Format::Virtual, read(Format::Virtual, text)));
    let contents = aliases.chain(virtuals).collect::<Vec<_>>();
    let files = contents
        .iter()
        .map(|(format, content)| File {
            format: *format,
            name: if *format == Format::Aliases { "aliases /a" } else { "virtual /v" },
            content,
            included: if *format == Format::Aliases { &included } else { &[] },
        })
        .collect::<Vec<_>>();
    resolve(&Input { configured, files: &files, min_members }).unwrap()
}

#[test]
fn nested_lists_count_every_mailbox_once() {
    let resolved =
        resolve_texts(&[], &["all: left, right, x1\nleft: a, b, c\nright: c, d, A\n"], &[], &[], 3);
    assert_eq!(show(&resolved), ["all@x 5: left@x right@x", "left@x 3: ", "right@x 3: "]);
    assert_eq!(resolved.by_file, [3]);
    assert_eq!(resolved.lists[1].origin, "aliases /a:2");
}

#[test]
fn small_aliases_are_expanded_but_are_no_lists() {
    let text = "all: ann, bob, pair, one, self\none: two\ntwo: ann\npair: carl, dora\nself: self, extra\n";
    assert_eq!(show(&resolve_texts(&[], &[text], &[], &[], 3)), ["all@x 6: "]);
}

#[test]
fn cycles_are_survived() {
    let resolved =
        resolve_texts(&[], &["a: b, u\nb: c, v\nc: a, w\nd: a\nloop: pool\npool: loop\n"], &[], &[], 2);
    assert_eq!(show(&resolved), ["a@x 3: b@x c@x", "b@x 3: a@x c@x", "c@x 3: a@x b@x"]);
    assert_eq!(resolved.lists[0].names, ["d@x"]);
}

#[test]
fn what_leads_to_one_list_and_nowhere_else_is_another_name_of_it() {
    let aliases =
        "all: a, b, c\nstaff: all\nevery: staff\nboth: all, d\nann: a\nowner-all: all\nsite: all\nfew: a, b";
    let virtuals = "everyone@y every\nall@y all@x\nsite@y site\nelsewhere@y far@z\nsmall@y few\n";
    let lists = [configured("far@z", 500), configured("site@y", 0), configured("few@x", 0)];
    let resolved = resolve_texts(&lists, &[aliases], &[virtuals], &[], 3);
    assert_eq!(
        show(&resolved),
        ["all@x 3: ", "both@x 4: all@x", "far@z 500: ", "few@x 2: ", "site@y 3: all@x"]
    );
    let names: Vec<_> = resolved.lists.iter().map(|list| list.names.join(" ")).collect();
    // What the configuration names is a list of its own.
    assert_eq!(names, ["all@y every@x everyone@y site@x staff@x", "", "elsewhere@y", "small@y", ""]);

    // By a pattern, too; and what leads to it leads to it.
    let lists = [configured("staff@x", 0), configured("alarm-*@x", 0)];
    let aliases = "all: a, b, c\nstaff: all\nteam: staff\nalarm-all: all\n";
    let resolved = resolve_texts(&lists, &[aliases], &[], &[], 3);
    let named: Vec<_> =
        resolved.lists.iter().map(|list| (list.address.as_str(), list.names.join(" "))).collect();
    let named: Vec<_> = named.iter().map(|(address, names)| (*address, names.as_str())).collect();
    assert_eq!(named, [("alarm-all@x", ""), ("all@x", ""), ("staff@x", "team@x"), ("alarm-*@x", "")]);
}

#[test]
fn includes_nest_and_may_include_each_other() {
    let includes = [("/one", "a\nb\n:include:/two"), ("/two", "c\n:include:/one, :include:/missing\nteam")];
    let resolved = resolve_texts(&[], &["all: :include:/one\nteam: d, e"], &[], &includes, 2);
    assert_eq!(show(&resolved), ["all@x 5: team@x", "team@x 2: "]);
}

#[test]
fn sources_refer_to_each_other() {
    let resolved =
        resolve_texts(&[], &["staff: a, b, all@y"], &["all@y staff, c\nteam@x team, d\n", "all@y z"], &[], 2);
    assert_eq!(show(&resolved), ["all@y 3: staff@x", "staff@x 3: all@y", "team@x 2: "]);
    assert_eq!(resolved.by_file, [1, 2, 0]);
}

#[test]
fn a_virtual_entry_that_names_itself_goes_on_to_the_alias() {
    let resolved =
        resolve_texts(&[], &["team: a, b\nplain: c, d"], &["team@x team, v\nplain@x e, f, g"], &[], 2);
    assert_eq!(show(&resolved), ["plain@x 3: ", "team@x 3: "]);
}

#[test]
fn extensions_and_backslashes() {
    let text = "all: bob+a, bob+b, list+ext, \\list\nlist: l1, l2, l3\nbob+b: m1, m2, m3";
    let resolved = resolve_texts(&[], &[text], &[], &[], 3);
    // bob, l1 to l3 by way of list+ext, the mailbox of list, m1 to m3 by way of bob+b.
    assert_eq!(show(&resolved), ["all@x 8: bob+b@x list@x", "bob+b@x 3: ", "list@x 3: "]);
}

#[test]
fn owners_are_no_lists_but_may_be_members() {
    let resolved = resolve_texts(&[], &["owner-all: a, b, c\nall: owner-all, d"], &[], &[], 3);
    assert_eq!(show(&resolved), ["all@x 4: "]);
}

#[test]
fn the_configuration_wins() {
    let lists =
        [configured("all@x", 1000), configured("team@x", 0), configured("new@y", 0), configured("*@l", 9)];
    let resolved = resolve_texts(&lists, &["all: a, b, team\nteam: c, d\nround: all, team, e"], &[], &[], 2);
    assert_eq!(
        show(&resolved),
        ["all@x 1000: ", "new@y 0: ", "round@x 1003: all@x team@x", "team@x 2: ", "*@l 9: "]
    );
    assert_eq!(resolved.lists[3].class.as_deref(), Some("c"));
    assert_eq!(resolved.lists[3].origin, "becalm.toml:1, members from aliases /a:2");
}

#[test]
fn a_configured_list_may_be_small() {
    let lists = [configured("pair@x", 0)];
    let resolved = resolve_texts(&lists, &["pair: a, b\nother: c, d"], &[], &[], 10);
    assert_eq!(show(&resolved), ["pair@x 2: "]);
}

#[test]
fn a_long_chain_is_neither_deep_nor_slow() {
    let mut text = "l0: m0, m1\n".to_owned();
    for list in 1..1000 {
        text.push_str(&format!("l{list}: l{}, m{}\n", list - 1, list + 1));
    }
    let resolved = resolve_texts(&[], &[&text], &[], &[], 2);
    let last = resolved.lists.iter().find(|list| list.address == "l999@x").unwrap();
    assert_eq!((last.members, last.contains.len()), (1001, 999));
}

#[test]
fn too_much_nesting_is_refused() {
    let text = (0..6000).map(|list| format!("l{list}: l{}, m{list}\n", list + 1)).collect::<String>();
    let content = read(Format::Aliases, &text);
    let file = File { format: Format::Aliases, name: "a", content: &content, included: &[] };
    let refused = resolve(&Input { configured: &[], files: &[file], min_members: 2 });
    assert_eq!(refused, Err(TooTangled::Nesting));
    let ring =
        (0..6000).map(|list| format!("l{list}: l{}, m{list}\n", (list + 1) % 6000)).collect::<String>();
    let content = read(Format::Aliases, &ring);
    let file = File { format: Format::Aliases, name: "a", content: &content, included: &[] };
    let refused = resolve(&Input { configured: &[], files: &[file], min_members: 2 });
    assert_eq!(refused, Err(TooTangled::Nesting));
}

/// One table as a map from name to members, before anything is made of it.
type Table = BTreeMap<u8, Vec<u8>>;

/// What mail for `name` reaches: (mailboxes, entries passed), by walking, with sets.
fn naive(aliases: &Table, virtuals: &Table, name: u8) -> (BTreeSet<u8>, BTreeSet<u8>) {
    let (mut mailboxes, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting = vec![(name, virtuals.contains_key(&name))];
    while let Some((entry, is_virtual)) = waiting.pop() {
        if !seen.insert((entry, is_virtual)) {
            continue;
        }
        for &member in &(if is_virtual { virtuals } else { aliases })[&entry] {
            if member == entry {
                if is_virtual && aliases.contains_key(&member) {
                    waiting.push((member, false));
                } else {
                    mailboxes.insert(member);
                }
            } else if virtuals.contains_key(&member) {
                waiting.push((member, true));
            } else if aliases.contains_key(&member) {
                waiting.push((member, false));
            } else {
                mailboxes.insert(member);
            }
        }
    }
    (mailboxes, seen.into_iter().map(|(entry, _)| entry).collect())
}

/// Of which other name this one is another, by walking.
fn list_behind(aliases: &Table, virtuals: &Table, name: u8) -> Option<u8> {
    let mut entry = (name, virtuals.contains_key(&name));
    for _ in 0..MAX_CHASE {
        let (at, is_virtual) = entry;
        let members = if is_virtual { &virtuals[&at] } else { &aliases[&at] };
        let is_included = !is_virtual && is_in_a_file(at, members);
        let &[member] = &members.iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()[..] else {
            return Some(at).filter(|at| *at != name);
        };
        entry = match *member {
            _ if is_included => return Some(at).filter(|at| *at != name),
            member if member == at && !(is_virtual && aliases.contains_key(&member)) => return None,
            member if member != at && virtuals.contains_key(&member) => (member, true),
            member if aliases.contains_key(&member) => (member, false),
            _ => return None,
        };
    }
    None
}

/// Every third alias has its members in a file, but for those that name themselves.
fn is_in_a_file(name: u8, members: &[u8]) -> bool {
    name.is_multiple_of(3) && !members.contains(&name)
}

fn table() -> impl Strategy<Value = Table> {
    prop::collection::btree_map(0..24_u8, prop::collection::vec(0..60_u8, 1..8), 0..16)
}

proptest! {
    #[test]
    fn as_sets_would_have_it(aliases in table(), virtuals in table(), min_members in 2..12_u64) {
        let list = |members: &[u8], separator| {
            members.iter().map(|member| format!("n{member}")).collect::<Vec<_>>().join(separator)
        };
        let mut included = Vec::new();
        let aliases_text = aliases.iter().map(|(name, members)| {
            if is_in_a_file(*name, members) {
                included.push((format!("/n{name}"), list(members, "\n")));
                format!("n{name}: :include:/n{name}\n")
            } else {
                format!("n{name}: {}\n", list(members, ", "))
            }
        }).collect::<String>();
        let virtuals_text =
            virtuals.iter().map(|(name, members)| format!("n{name} {}\n", list(members, " "))).collect::<String>();
        let included = included.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>();
        let resolved = resolve_texts(&[], &[&aliases_text], &[&virtuals_text], &included, min_members);

        let (mut expected, mut names) = (BTreeMap::new(), BTreeSet::new());
        for &name in aliases.keys().chain(virtuals.keys()) {
            let (mailboxes, passed) = naive(&aliases, &virtuals, name);
            let is_list = mailboxes.len() as u64 >= min_members;
            if is_list && let Some(list) = list_behind(&aliases, &virtuals, name) {
                names.insert((format!("n{list}@x"), format!("n{name}@x")));
            } else if is_list {
                expected.insert(format!("n{name}@x"), (mailboxes.len() as u64, passed));
            }
        }
        let found = resolved.lists.iter().map(|list| {
            let contains = list.contains.iter().map(|id| resolved.lists[id.index()].address.clone());
            (list.address.clone(), (list.members, contains.collect::<BTreeSet<_>>()))
        }).collect::<BTreeMap<_, _>>();
        let expected = expected.iter().map(|(address, (members, passed))| {
            let contains = passed.iter().map(|name| format!("n{name}@x"))
                .filter(|other| other != address && expected.contains_key(other));
            (address.clone(), (*members, contains.collect::<BTreeSet<_>>()))
        }).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(found, expected);
        let found = resolved.lists.iter().flat_map(|list| list.names.iter().map(|name| (list.address.clone(), name.clone())));
        prop_assert_eq!(found.collect::<BTreeSet<_>>(), names);
    }
}

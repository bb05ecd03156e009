use super::*;
use crate::storm::policy::Mode;
use proptest::prelude::*;

fn good(text: &str) -> (Config, Report) {
    parse("/etc/becalm/becalm.toml", text).unwrap_or_else(|report| panic!("{}", report.render(false)))
}

/// The remarks on `text`, one a line.
fn remarks(text: &str) -> String {
    parse("b.toml", text).map_or_else(|report| report, |(_, report)| report).to_string()
}

#[test]
fn all_errors_are_found_at_once() {
    insta::assert_snapshot!(remarks(
        "[listen]\nmax_conections = 5\nthreads = 2000\nmode = 660\n[strom]\nfree = 2\n[storm]\nwindow = \"1 year\"\n\
         delay = 10\n[verdict]\nmode = \"holt\"\nnever_hold = \"no\"\n"
    ), @r#"
    b.toml:2:1: error: unknown setting `max_conections` in `listen` (did you mean `max_connections`?)
    b.toml:3:11: error: `threads`: 2000 is out of range (allowed: 0 to 1_024)
    b.toml:4:8: error: `mode`: 660 is not written in octal (write "0660")
    b.toml:5:2: error: unknown section `strom` (did you mean `storm`?)
    b.toml:8:10: error: `window`: `1 year` has no fixed length (use days: months and years differ in length)
    b.toml:9:9: error: `delay`: this must be a length of time, not a whole number (as in "90s", "10m" or "1h 30m")
    b.toml:11:8: error: `mode`: "holt" is not a choice here (did you mean "hold"?)
    b.toml:12:14: error: `never_hold`: this must be `true` or `false`, not a string (without quotes)
    "#);
}

#[test]
fn mistakes_of_syntax_are_reported_alone() {
    let report = parse("b.toml", "[storm\nfree = 99\nmax = = 3\n").unwrap_err();
    assert!(report.diagnostics.len() >= 2, "{report}");
    assert!(!report.to_string().contains("out of range"), "{report}");
    insta::assert_snapshot!(remarks("[storm]\nwindow = 10m\nfree =\nx = [1"), @r#"
    b.toml:2:10: error: string values must be quoted (write "10m")
    b.toml:3:7: error: the value is missing (write it after the `=`)
    b.toml:4:7: error: unclosed array (expected `]`)
    "#);
    assert!(remarks("x = 1\nx = 2").contains("keep one"));
}

#[test]
fn every_range_is_enforced_at_both_ends() {
    for (section, key, low, high) in [
        ("storm", "budget", 1_u64, 1_000_000_000_000_u64),
        ("storm", "free", 1, 10),
        ("storm", "storm_min", 3, 20),
        ("storm", "max", 10, 20),
        ("storm", "list_factor", 1, 1000),
        ("storm", "automatic_max", 0, 5),
        ("unknown_lists", "authors", 2, 20),
        ("tables", "conversations", 1024, 1 << 24),
        ("listen", "max_connections", 1, 100_000),
        ("directory", "min_members", 2, 1_000_000),
    ] {
        good(&format!("{section}.{key} = {low}"));
        good(&format!("{section}.{key} = {high}"));
        assert!(parse("", &format!("{section}.{key} = {}", high + 1)).is_err(), "{key}");
        if low > 0 {
            assert!(parse("", &format!("{section}.{key} = {}", low - 1)).is_err(), "{key}");
        }
    }
    for (key, low, below, high, above) in [
        ("window", "1m", "59s", "24h", "24h 1s"),
        ("quiet", "1m", "59s", "24h", "24h 1s"),
        ("known_for", "1d", "23h", "365d", "366d"),
        ("cooling", "0s", "-1s", "30d", "31d"),
    ] {
        good(&format!("storm.{key} = '{low}'"));
        good(&format!("storm.{key} = '{high}'"));
        assert!(parse("", &format!("storm.{key} = '{below}'")).is_err(), "{key}");
        assert!(parse("", &format!("storm.{key} = '{above}'")).is_err(), "{key}");
    }
    for number in ["-1", "18446744073709551616", "0x7fffffffffffffffffff"] {
        assert!(parse("", &format!("storm.budget = {number}")).is_err(), "{number}");
    }
}

#[test]
fn thresholds_must_not_contradict_each_other() {
    insta::assert_snapshot!(remarks("[storm]\nfree = 15\n[class.x]\nmax = 2"), @"b.toml:2:8: error: `storm_min` (10) is below `free` (15) (raise `storm_min` or lower `free`)");
    insta::assert_snapshot!(remarks("[class.x]\nmax = 9\n[storm]\nknown_for = '1d'\nknown_after = '1d'"), @"b.toml:4:13: error: `known_for` is not above `known_after`: nobody would ever be known (raise `known_for` or lower `known_after`)");
    insta::assert_snapshot!(
        remarks("[class.x]\nmax = 12\n[[list]]\naddress = 'a@b'\nclass = 'x'\nstorm_min = 13\n[[list]]\naddress = 'c@b'\nstorm_min = 20"),
        @r"
    b.toml:6:13: error: `max` (12) is below `storm_min` (13) of class `x` (raise `max` or lower `storm_min`)
    b.toml:9:13: error: `max` (12) is below `storm_min` (20) of class `x` (raise `max` or lower `storm_min`)
    "
    );
}

#[test]
fn lists_become_policies_and_members() {
    let (config, _) = good(
        "[postfix]\nmyorigin = 'Example.org'\nlocal_domains = ['example.org', 'mx.example.org']\n\
         domain_aliases = { 'old.example' = 'example.org' }\n\
         [class.emergency]\nnever_hold = true\n\
         [[list]]\naddress = 'Alarm@OLD.example'\nmembers = 1_200_000\nclass = 'emergency'\n\
         [[list]]\naddress = '*-all@mx.example.org'\nmode = 'hold'\nbudget = 5\n\
         [[list]]\naddress = 'staff'\nmembers = 7\n",
    );
    let lists: Vec<_> =
        config.directory.lists.iter().map(|list| (list.address.as_str(), list.members)).collect();
    assert_eq!(lists, [("alarm@example.org", 1_200_000), ("staff@example.org", 7)]);
    assert_eq!(config.directory.lists[0].origin, "becalm.toml:7");
    assert!(config.policies.for_list("alarm@example.org", None).never_hold);
    let policy = config.policies.for_list("it-all@example.org", None);
    assert_eq!((policy.mode, policy.thresholds.budget), (Mode::Hold, 5));
}

#[test]
fn lists_are_named_once_and_know_their_class() {
    insta::assert_snapshot!(
        remarks("[class.huge]\n[[list]]\naddress = 'a@b'\nclass = 'hugo'\n[[list]]\naddress = 'A@b'\n[[list]]\nmembers = 3\n[[list]]\naddress = 'a b'"),
        @r#"
    b.toml:4:9: error: there is no class `hugo` (did you mean "huge"?)
    b.toml:6:11: error: `a@b` is named already in line 2 (keep one `[[list]]` for every address)
    b.toml:7:1: error: this list has no address (add `address = "local@domain"`)
    b.toml:10:11: error: `address`: `a b` has characters that no list's address has (write `local@domain`; `*` stands for any characters)
    "#
    );
    assert!(remarks("[[list]]\naddress = 'a@b'").contains("warning: nothing is said about `a@b`"));
    insta::assert_snapshot!(remarks("[[list]]\naddress = 'a@b'\nmembers = -3"), @"b.toml:3:11: error: `members`: -3 is out of range (allowed: 0 to 1_000_000_000)");
    insta::assert_snapshot!(
        remarks("[[list]]\naddress = 'a@b'\nmode = 'quarantine'\n[[list]]\naddress = 'c@b'\nmember = 5"),
        @r#"
    b.toml:3:8: error: `mode`: "quarantine" is not a choice here (one of "observe", "hold", "reject", "defer", "discard", "strip")
    b.toml:6:1: error: unknown setting `member` in `list` (did you mean `members`?)
    "#
    );
    assert!(remarks("list = 3").contains("array of tables"));
    assert!(remarks("list = [3]").contains("`list` is a table"));
}

#[test]
fn limits_need_both_numbers_and_must_fit_the_clock() {
    let (config, _) = good("[limits]\nmode = 'defer'\nauthor = { copies = 100_000, per = '1h' }");
    let rate = config.limits.author.unwrap();
    assert_eq!((rate.copies.get(), rate.per, config.limits.mode), (100_000, hours(1), Mode::Defer));
    assert!(remarks("limits.author = { copies = 4 }").contains("needs `copies` and `per`"));
    assert!(remarks("limits.author = { copies = 4_000_000_000, per = '1s' }").contains("nanosecond"));
    assert!(remarks("limits.author = { copies = 0, per = '1s' }").contains("out of range"));
    assert!(remarks("limits.author = 5").contains("is a table"));
    assert!(remarks("limits.mode = 'discard'").contains("not a choice"));
}

#[test]
fn addresses_of_postfix_are_checked() {
    let (config, _) = good("[postfix]\nrecipient_delimiter = '+-'\nlocal_domains = ['A.example']");
    assert_eq!(config.addresses.recipient_delimiter, [b'+', b'-'].into());
    assert_eq!(config.addresses.local_domains, ["a.example"]);
    for bad in [
        "recipient_delimiter = 'a'",
        "local_domains = ['hash:/etc/x']",
        "domain_aliases = { 'a.b' = 'a.b' }",
        "domain_aliases = { 'a.b' = 3 }",
        "domain_aliases = { 'a b' = 'c' }",
        "myorigin = '/etc/mailname'",
    ] {
        assert!(parse("", &format!("[postfix]\n{bad}")).is_err(), "{bad}");
    }
}

#[test]
fn what_is_dangerous_is_warned_of() {
    for (text, word) in [
        ("verdict.mode = 'discard'", "throws mail away"),
        ("listen.mode = '0666'", "every user"),
        ("listen.sockets = ['inet:8890@0.0.0.0']", "other machines"),
        ("exempt.networks = ['0.0.0.0/0']", "every client"),
    ] {
        let (_, report) = good(text);
        assert!(report.to_string().contains(word), "{text}: {report}");
    }
}

#[test]
fn sockets_are_bounded_and_different() {
    assert!(remarks("listen.sockets = []").contains("allowed: 1 to 16"));
    assert!(remarks("listen.sockets = ['unix:/a', 'unix:/a']").contains("twice"));
    assert!(remarks("listen.sockets = 'unix:/a'").contains("array of strings"));
    assert!(remarks("listen.sockets = [5]").contains("must be a string"));
    insta::assert_snapshot!(remarks("listen.sockets = ['inet:99999@127.0.0.1']"), @"b.toml:1:19: error: `sockets`: `99999` is not a port (a port is a number from 1 to 65535)");
}

#[test]
fn the_daemon_is_found_where_a_file_with_mistakes_says() {
    let wrong = "verdict.mode = 'hodl'\nadmin.socket = '/a/b'\nstate.directory = '/c'\n[[list]]\n= 5\n";
    let (admin, state) = whereabouts(wrong).expect("the mistakes are elsewhere");
    assert_eq!((admin.socket, state.directory), ("/a/b".into(), "/c".into()));
    assert_eq!(whereabouts("admin.socket = 5"), None);
}

#[test]
fn the_number_of_remarks_is_bounded() {
    let text: String = (0..5000).map(|index| format!("x{index} = 1\n")).collect();
    assert_eq!(parse("", &text).unwrap_err().diagnostics.len(), 200);
}

proptest! {
    /// Whatever stands in the file, it is read or refused with remarks that can be printed.
    #[test]
    fn nothing_in_the_file_makes_it_fall(
        section in prop::sample::select(vec!["listen", "postfix", "storm", "verdict", "limits", "tables", "list"]),
        key in "[a-z_]{1,12}|mode|budget|window|sockets|author|domain_aliases|reject_text|address",
        value in "[0-9]{1,24}|\"[^\"\\\\]{0,20}\"|\\[.{0,6}\\]|\\{ ?[a-z]{0,3} ?= ?[0-9] ?\\}|.{0,12}",
    ) {
        for text in [format!("[{section}]\n{key} = {value}\n"), format!("[[{section}]]\n{key} = {value}")] {
            if let Err(report) = parse("b.toml", &text) {
                prop_assert!(!report.render(true).is_empty());
                prop_assert!(report.to_string().contains("error"));
            }
        }
    }
}

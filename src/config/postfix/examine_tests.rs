use super::*;
use crate::config::Severity;

const GOOD: &str = "{ unix:becalm/becalm.sock, default_action=accept, connect_timeout=2s, command_timeout=5s, content_timeout=10s }";

/// What `postconf` would say of a site that is set up as documented, with `changes` on top.
fn facts(changes: &str, master: &str, overrides: &str) -> Facts {
    let main = format!(
        "queue_directory = /var/spool/postfix\nsmtpd_milters = {GOOD}\ndefault_process_limit = 100\n\
         compatibility_level = 3.6\nenable_long_queue_ids = yes\nmilter_default_action = tempfail\n\
         milter_connect_timeout = 30s\nmilter_command_timeout = 30s\nmilter_content_timeout = 300s\n\
         milter_protocol = 6\nsmtpd_timeout = 300s\n{changes}\n"
    );
    Facts::parse(&main, master, overrides)
}

const SMTP: &str = "smtp inet n - y - - smtpd";

/// Everything above `Ok`, a line each.
fn complaints(facts: &Facts, becalm: &str) -> String {
    let (config, _) = Config::parse("b.toml", becalm).unwrap();
    let found = examine(facts, &config).into_iter().filter(|finding| finding.severity > Severity::Ok);
    found
        .map(|finding| format!("{} {}: {}\n", finding.severity.name(), finding.topic, finding.message))
        .collect()
}

fn with_milters(value: &str) -> String {
    complaints(&facts(&format!("smtpd_milters = {value}"), SMTP, ""), "")
}

#[test]
fn a_site_as_documented_has_no_complaints() {
    assert_eq!(complaints(&facts("", SMTP, ""), ""), "");
}

#[test]
fn an_smtpd_without_becalm_is_an_error() {
    assert!(with_milters("").contains("error smtp/inet: smtpd without becalm"));
    let overridden =
        facts("", &format!("{SMTP}\nsubmission inet n - y - - smtpd"), "submission/inet/smtpd_milters =");
    insta::assert_snapshot!(complaints(&overridden, ""), @"error submission/inet: smtpd without becalm: mail that comes in here is not seen");
    assert!(complaints(&facts("", "smtp unix - - y - - smtp", ""), "").contains("no smtpd service"));
}

#[test]
fn the_line_to_paste_keeps_the_other_milters_as_they_are() {
    let help_of = |facts: Facts| {
        let (config, _) = Config::parse("b.toml", "").unwrap();
        let found = examine(&facts, &config).into_iter();
        let about = found.filter(|finding| finding.message.starts_with("smtpd "));
        about.map(|finding| format!("{}\n  {}\n", finding.message, finding.help.unwrap())).collect::<String>()
    };
    let help = |value: &str| help_of(facts(&format!("smtpd_milters = {value}"), SMTP, ""));
    insta::assert_snapshot!(help("{ inet:localhost:8891, default_action=accept, command_timeout=3s }"), @r"
    smtpd without becalm: mail that comes in here is not seen
      main.cf:
    smtpd_milters = { inet:localhost:8891, default_action=accept, command_timeout=3s }, { unix:becalm/becalm.sock, default_action=accept, connect_timeout=2s, command_timeout=5s, content_timeout=10s }
    ");
    insta::assert_snapshot!(help("{ inet:localhost:8891, default_action=accept"), @r"
    smtpd ends at `{ inet:localhost:8891, default_action=accept`, and takes no mail: its brace is not closed
      close it with `}`
    smtpd without becalm: mail that comes in here is not seen
      mend `{ inet:localhost:8891, default_action=accept` first; then put becalm at the end of smtpd_milters:
    { unix:becalm/becalm.sock, default_action=accept, connect_timeout=2s, command_timeout=5s, content_timeout=10s }
    ");
    insta::assert_snapshot!(help_of(facts("", SMTP, "smtp/inet/smtpd_milters = inet:localhost:8891")), @r"
    smtpd without becalm: mail that comes in here is not seen
      master.cf sets smtpd_milters for this service: remove that option, or write
    -o { smtpd_milters = inet:localhost:8891, { unix:becalm/becalm.sock, default_action=accept, connect_timeout=2s, command_timeout=5s, content_timeout=10s } }
    ");
}

#[test]
fn becalm_must_be_the_last_milter_and_once() {
    assert!(with_milters(&format!("{GOOD}, inet:localhost:8891")).contains("not the last milter"));
    assert_eq!(with_milters(&format!("inet:localhost:8891, {GOOD}")), "");
    assert!(with_milters(&format!("{GOOD} {GOOD}")).contains("more than once"));
}

#[test]
fn a_path_must_be_right_inside_the_chroot() {
    let absolute = GOOD.replace("becalm/becalm.sock", "/var/spool/postfix/becalm/becalm.sock");
    assert!(with_milters(&absolute).contains("a chrooted smtpd does not see"));
    let free = facts(&format!("smtpd_milters = {absolute}"), "smtp inet n - n - - smtpd", "");
    assert_eq!(complaints(&free, ""), "");
    assert!(with_milters("unix:/run/becalm.sock").contains("does not lead to becalm"));
}

#[test]
fn without_an_answer_mail_must_go_on_soon() {
    insta::assert_snapshot!(with_milters("unix:becalm/becalm.sock"), @r"
    error smtp/inet: when becalm does not answer, mail is not accepted (default_action=tempfail)
    warning smtp/inet: when becalm hangs, every session waits for long (connect_timeout=30s, command_timeout=30s, content_timeout=300s)
    ");
    let global = "smtpd_milters = unix:becalm/becalm.sock\nmilter_default_action = accept\n\
                  milter_connect_timeout = 2s\nmilter_command_timeout = 2\nmilter_content_timeout = 1m\nmilter_protocol = 2";
    insta::assert_snapshot!(complaints(&facts(global, SMTP, ""), ""), @"warning smtp/inet: milter protocol 2: more packets for every message");
}

#[test]
fn what_ends_smtpd_is_an_error() {
    let typo = GOOD.replace("connect_timeout=2s", "connect_timeout=2s, protocl=6");
    let found = with_milters(&typo);
    assert!(found.contains("error smtp/inet: smtpd ends at `{ unix:becalm/becalm.sock,"), "{found}");
    assert!(found.contains("`protocl` is no setting"), "{found}");
    let found = with_milters(&format!("{{ inet:localhost:8891, action=accept }}, {GOOD}"));
    assert!(found.contains("`action` is no setting"), "{found}");
}

#[test]
fn a_service_may_have_settings_of_its_own() {
    let main = "smtpd_milters = unix:becalm/becalm.sock\nmilter_default_action = accept\n\
                milter_connect_timeout = 2s\nmilter_command_timeout = 5s\nmilter_content_timeout = 10s";
    let master = format!("{SMTP}\nsubmission inet n - y - - smtpd\nsmtps inet n - y - - smtpd");
    let overrides = "submission/inet/milter_default_action = tempfail\n\
                     submission/inet/milter_command_timeout = 300s\n\
                     submission/inet/smtpd_timeout = 20m\n\
                     smtps/inet/smtpd_milter_maps = inline:{0.0.0.0/0=DISABLE}\n";
    assert_eq!(complaints(&facts(main, &master, ""), ""), "");
    insta::assert_snapshot!(complaints(&facts(main, &master, overrides), ""), @r"
    error submission/inet: when becalm does not answer, mail is not accepted (default_action=tempfail)
    warning submission/inet: when becalm hangs, every session waits for long (command_timeout=300s)
    warning submission/inet: a client may pause for 1200s (smtpd_timeout), but becalm hangs up after 10m
    warning smtps/inet: smtpd_milter_maps (inline:{0.0.0.0/0=DISABLE}) replaces the milters for some clients
    ");
    // What the milter's entry says holds before what the service says.
    assert_eq!(complaints(&facts("", &master, "submission/inet/milter_default_action = tempfail"), ""), "");
}

#[test]
fn mail_without_smtpd_is_as_well_looked_after() {
    let local = |value: &str, overrides: &str| {
        let master = format!("{SMTP}\ncleanup unix n - y - 0 cleanup");
        complaints(&facts(&format!("non_smtpd_milters = {value}"), &master, overrides), "")
    };
    assert_eq!(local("", ""), "");
    assert_eq!(local("inet:localhost:8891", ""), "");
    assert_eq!(local(&format!("inet:localhost:8891, {GOOD}"), ""), "");
    insta::assert_snapshot!(local("unix:becalm/becalm.sock, inet:localhost:8891", ""), @r"
    error cleanup/unix: becalm is not the last milter: mail that is held is never shown to inet:localhost:8891
    error cleanup/unix: when becalm does not answer, mail is not accepted (default_action=tempfail)
    warning cleanup/unix: when becalm hangs, every session waits for long (connect_timeout=30s, command_timeout=30s, content_timeout=300s)
    ");
    assert!(local("unix:/run/becalm.sock", "").contains("does not lead to becalm"));
    assert!(local(GOOD, "cleanup/unix/non_smtpd_milters = unix:becalm/becalm.sock").contains("tempfail"));
}

#[test]
fn a_proxy_before_the_queue_is_an_error() {
    let facts = facts("", SMTP, "smtp/inet/smtpd_proxy_filter = 127.0.0.1:10024");
    assert!(complaints(&facts, "").contains("before-queue proxy"));
}

#[test]
fn reinjection_ports_are_skipped_or_named() {
    let master = format!("{SMTP}\n127.0.0.1:10025 inet n - y - - smtpd");
    let filter = "content_filter = scan:[127.0.0.1]:10024";
    let own = "127.0.0.1:10025/inet/content_filter =\n";
    let twice = complaints(&facts(filter, &master, own), "");
    assert!(twice.contains("127.0.0.1:10025/inet: mail that the content filter gives back"), "{twice}");
    let skipped = format!(
        "{own}127.0.0.1:10025/inet/receive_override_options = no_unknown_recipient_checks,no_milters"
    );
    assert_eq!(complaints(&facts(filter, &master, &skipped), ""), "");
    let without = format!("{own}127.0.0.1:10025/inet/smtpd_milters =");
    assert_eq!(complaints(&facts(filter, &master, &without), ""), "");
    let public = complaints(&facts("", SMTP, "smtp/inet/receive_override_options = no_milters"), "");
    assert!(public.contains("passes becalm by"), "{public}");
}

#[test]
fn connections_must_suffice_for_the_processes() {
    let master = format!("{SMTP}\nsubmission inet n - y - 450 smtpd\nsmtp unix - - y - 9000 smtp");
    let found = complaints(&facts("", &master, ""), "");
    assert!(found.contains("up to 550 smtpd processes, but becalm takes 500"), "{found}");
    assert_eq!(complaints(&facts("", &master, ""), "listen.max_connections = 550"), "");
    // A service that passes becalm by needs no connection.
    assert!(!complaints(&facts("", &master, "submission/inet/smtpd_milters ="), "").contains("processes"));
    assert!(complaints(&facts("", "smtp inet n - y - 0 smtpd", ""), "").contains("any number of processes"));
}

#[test]
fn long_queue_ids_are_needed_once_mail_is_held() {
    let short = facts("enable_long_queue_ids = no", SMTP, "");
    assert!(complaints(&short, "").starts_with("warning main.cf: short queue ids"));
    assert!(complaints(&short, "verdict.mode = 'hold'").starts_with("error main.cf: short queue ids"));
}

#[test]
fn pauses_of_clients_and_exceptions_are_mentioned() {
    let patient = facts("smtpd_timeout = 20m\nsmtpd_milter_maps = cidr:/etc/x", SMTP, "");
    insta::assert_snapshot!(complaints(&patient, ""), @r"
    warning main.cf: a client may pause for 1200s (smtpd_timeout), but becalm hangs up after 10m
    warning main.cf: smtpd_milter_maps (cidr:/etc/x) replaces the milters for some clients
    ");
}

#[test]
fn the_sockets_that_are_used_are_known() {
    let (config, _) = Config::parse("", "").unwrap();
    let used = used_sockets(&facts("", SMTP, ""), &config);
    assert_eq!(used, [(config.listen.sockets[0].clone(), true)]);
    assert_eq!(used_sockets(&facts("smtpd_milters =", SMTP, ""), &config), vec![]);
}

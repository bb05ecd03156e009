//! `becalm replay --policy`, `--html` and `becalm tune`, as they are called.

use assert_cmd::Command;
use serde_json::Value;

fn becalm(arguments: &[&str]) -> String {
    becalm_with("", arguments)
}

/// ... under a configuration of this text.
fn becalm_with(configuration: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("becalm.toml");
    std::fs::write(&file, configuration).unwrap();
    let output =
        Command::cargo_bin("becalm").unwrap().args(arguments).arg("--config").arg(&file).assert().success();
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} in {value}"))
}

#[test]
fn policies_stand_side_by_side() {
    let rules = ["becalm", "exchange-online", "rate-limit=50/d", "google-groups"];
    let mut arguments = vec!["replay", "--scenario", "nhs-2016", "--json"];
    arguments.extend(rules.iter().flat_map(|rule| ["--policy", rule]));
    let report: Value = serde_json::from_str(&becalm(&arguments)).unwrap();
    assert_eq!(report["policy"], "becalm");
    let compared = report["policies"].as_array().unwrap();
    let names: Vec<&str> = compared.iter().map(|one| one["policy"].as_str().unwrap()).collect();
    assert_eq!(names, rules);
    let copies: Vec<u64> = compared.iter().map(|one| number(one, "copies_with")).collect();
    assert_eq!(copies[0], number(&report, "copies_with"));
    assert!(copies[0] <= 4 * 840_000, "{copies:?}");
    assert_eq!(copies[2], 50 * 840_000, "fifty within a day");
    assert!(copies[1] > 50_000_000, "{copies:?}: it watches one conversation");
    for one in compared {
        let passed = number(one, "list_messages") - number(one, "messages_held_for_good");
        assert_eq!(number(one, "copies_with"), passed * 840_000, "{one}");
        assert_eq!(number(one, "copies_without"), number(one, "list_messages") * 840_000);
    }
}

#[test]
fn the_order_is_that_of_the_command_line() {
    let first = ["replay", "--scenario", "nhs-2016", "--json", "--policy", "exchange-online"];
    let alone: Value = serde_json::from_str(&becalm(&first)).unwrap();
    assert_eq!(alone["policy"], "exchange-online");
    assert_eq!(alone.get("policies"), None);
    let both = [first.as_slice(), &["--policy", "becalm"]].concat();
    let both: Value = serde_json::from_str(&becalm(&both)).unwrap();
    assert_eq!(both["policies"][0]["copies_with"], alone["copies_with"]);
    assert_eq!(both["policies"][1]["policy"], "becalm");
}

#[test]
fn a_file_is_the_rule_with_its_thresholds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gentle.toml");
    std::fs::write(&file, "[storm]\nfree = 20\nstorm_min = 20\nmax = 20\n").unwrap();
    let file = file.to_str().unwrap();
    let output =
        becalm(&["replay", "--scenario", "nhs-2016", "--json", "--policy", "becalm", "--policy", file]);
    let report: Value = serde_json::from_str(&output).unwrap();
    let [ours, gentle] = [0, 1].map(|place| number(&report["policies"][place], "copies_with"));
    assert!(gentle > 4 * ours, "{ours} {gentle}");
    assert_eq!(report["policies"][1]["policy"], file);
}

/// Its rate limits and the sizes of its lists, too; and a file that names no lists is for the lists that are known.
#[test]
fn a_file_is_a_whole_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let limits = written("limits.toml", "[limits]\norganisation = { copies = 6000, per = \"7d\" }\n");
    let lists = written("lists.toml", "[[list]]\naddress = \"all@staff.example\"\nmembers = 20\n");
    let base = "[[list]]\naddress = \"all@staff.example\"\nmembers = 3000\n";
    let play = |mail: String| -> Value {
        let mbox = written("past.mbox", &mail);
        let rules = ["--policy", "becalm", "--policy", &limits, "--policy", &lists];
        let output = becalm_with(base, &[&["replay", "--mbox", &mbox, "--json"][..], &rules].concat());
        serde_json::from_str(&output).unwrap()
    };
    let of = |report: &Value, field: &str| [0, 1, 2].map(|place| number(&report["policies"][place], field));
    let calm = play(past(1));
    assert_eq!(of(&calm, "copies_without"), [40 * 3000, 40 * 3000, 40 * 20], "{calm}");
    assert_eq!(of(&calm, "messages_over_limit"), [0, 0, 0], "one message a week fits: {calm}");
    let busy = play(past(4));
    let [unlimited, limited, small] = of(&busy, "messages_over_limit");
    assert!(
        (unlimited, small) == (0, 0) && limited > 40,
        "an observed limit is played as if it held: {busy}"
    );
}

#[test]
fn limits_count_with_many_seeds_too() {
    let limits = "[limits]\nmode = \"defer\"\norganisation = { copies = 1000, per = \"1h\" }\n";
    let arguments = ["replay", "--scenario", "calm-congratulation-400", "--json"];
    let one = becalm_with(limits, &[&arguments[..], &["--seed", "0"]].concat());
    let one: Value = serde_json::from_str(&one).unwrap();
    let many = becalm_with(limits, &[&arguments[..], &["--seeds", "1"]].concat());
    let many: Value = serde_json::from_str(&many).unwrap();
    for field in ["messages_over_limit", "copies_with", "messages_held_for_good", "messages_delayed"] {
        assert_eq!(number(&many[field], "median"), number(&one, field), "{field}");
    }
    assert!(number(&one, "messages_over_limit") > 0, "{one}");
}

#[test]
fn many_seeds_compare_too() {
    let output = becalm(&[
        "replay",
        "--scenario",
        "nhs-2016",
        "--seeds",
        "3",
        "--json",
        "--policy",
        "becalm",
        "--policy",
        "exchange-online",
    ]);
    let summary: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(summary["policies"][0]["copies_with"], summary["copies_with"]);
    assert!(
        number(&summary["policies"][1]["copies_with"], "median") > number(&summary["copies_with"], "worst")
    );
}

#[test]
fn a_page_is_written_and_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    becalm(&[
        "replay",
        "--scenario",
        "nhs-2016",
        "--policy",
        "becalm",
        "--policy",
        "exchange-online",
        "--html",
        file.to_str().unwrap(),
    ]);
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("3 messages reached people before becalm stopped the storm"));
    assert!(page.contains("Exchange Online") && page.contains("<svg"));
    for outside in ["http:", "https:", "src=", "href=", "<script", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn what_cannot_be_compared_is_named() {
    for (arguments, word) in [
        (&["--policy", "gmail"][..], "exchange-online"),
        (&["--policy", "rate-limit=0/h"], "rate"),
        (&["--html", "x.html", "--seeds", "3"], "--seeds"),
        (&["--list", "all@x.example=5", "--seeds", "3"], "'--list <ADDRESS=MEMBERS>' cannot be used with"),
        (&["--arrival", "date", "--seeds", "3"], "--arrival"),
    ] {
        let output = Command::cargo_bin("becalm")
            .unwrap()
            .args(["replay", "--scenario", "nhs-2016"])
            .args(arguments)
            .assert()
            .failure()
            .code(2);
        let error = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(error.contains(word), "{error}");
    }
}

/// Ten people a week who write to a list one after the other, forty weeks long; `burst` of them within an hour.
fn past(burst: u64) -> String {
    let mut mbox = String::new();
    for week in 0..40_u64 {
        for person in 0..burst {
            let secs = 1_600_000_000 + week * 604_800 + person * 300;
            let date = jiff::Timestamp::from_second(secs as i64).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let reply =
                if person == 0 { String::new() } else { format!("In-Reply-To: <{week}.0@mail.example>\n") };
            mbox.push_str(&format!(
                "From p{week}.{person}@staff.example {}\nFrom: p{week}.{person}@staff.example\nTo: \
                 all@staff.example\nSubject: Re: week {week}\nMessage-ID: <{week}.{person}@mail.example>\n{reply}\nx\n\n",
                date.strftime("%a %b %e %H:%M:%S %Y")
            ));
        }
    }
    mbox
}

#[test]
fn what_tune_suggests_is_taken_and_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mbox = folder.path().join("past.mbox");
    // Seven newcomers a time: eight would have been the quietest threshold.
    std::fs::write(&mbox, past(7)).unwrap();
    let mbox = mbox.to_str().unwrap();
    let fragment = becalm(&["tune", "--mbox", mbox, "--list", "all@staff.example=3000"]);
    assert!(fragment.contains("storm_min = 10\nmax = 10"), "{fragment}");
    assert!(!fragment.contains("#   at 5: silent"), "{fragment}");
    assert!(fragment.contains("#   at 10: silent"), "{fragment}");

    let (config, report) = becalm::config::Config::parse("tuned", &fragment)
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    assert_eq!(report.render(false), "", "no warnings");
    let numbers = config.policies.for_list("all@staff.example", None).thresholds;
    assert_eq!((numbers.storm_min, numbers.max), (10, 10));

    let tuned = folder.path().join("tuned.toml");
    std::fs::write(&tuned, &fragment).unwrap();
    let play = |file: &str| -> Value {
        let output = becalm(&[
            "replay",
            "--mbox",
            mbox,
            "--list",
            "all@staff.example=3000",
            "--json",
            "--policy",
            file,
        ]);
        serde_json::from_str(&output).unwrap()
    };
    let then = play(tuned.to_str().unwrap());
    assert_eq!(then["storms"], serde_json::json!([]));
    assert_eq!((number(&then, "messages_held_for_good"), number(&then, "messages_delayed")), (0, 0));
    let below = folder.path().join("below.toml");
    std::fs::write(&below, fragment.replace("= 10", "= 5")).unwrap();
    assert_ne!(play(below.to_str().unwrap())["storms"], serde_json::json!([]));
}

/// Every field that `--seeds --json` has, as its help says.
#[test]
fn the_object_of_many_seeds_is_as_documented() {
    let output = becalm(&["replay", "--scenario", "small", "--seeds", "2", "--json"]);
    let summary: Value = serde_json::from_str(&output).unwrap();
    let mut plain = Vec::new();
    let mut spreads = Vec::new();
    for (name, value) in summary.as_object().unwrap() {
        match value.as_object() {
            Some(spread) => {
                assert_eq!(spread.keys().collect::<Vec<_>>(), ["median", "p95", "worst"], "{name}");
                spreads.push(name.as_str());
            }
            None => plain.push(name.as_str()),
        }
    }
    plain.sort_unstable();
    assert_eq!(plain, ["members", "never_tripped", "policy", "scenario", "seeds"]);
    spreads.sort_unstable();
    let documented = [
        "conversations",
        "copies_with",
        "copies_without",
        "delay_max_s",
        "delay_p99_s",
        "list_messages",
        "messages",
        "messages_delayed",
        "messages_delivered",
        "messages_held_for_good",
        "messages_over_limit",
        "seconds_to_trip",
        "storms",
        "suspicions",
    ];
    assert_eq!(spreads, documented);
    let help = becalm(&["replay", "--help"]);
    for field in plain.into_iter().chain(spreads) {
        assert!(help.contains(field), "{field}");
    }
}

#[test]
fn what_a_rate_limit_defers_is_told_apart() {
    let limits = "[limits]\nmode = \"defer\"\norganisation = { copies = 1000, per = \"1h\" }\n";
    let arguments = ["replay", "--scenario", "calm-congratulation-400"];
    let output = becalm_with(limits, &[arguments.as_slice(), &["--json"]].concat());
    let report: Value = serde_json::from_str(&output).unwrap();
    let over = number(&report, "messages_over_limit");
    assert!(over > 0, "{report}");
    assert_eq!(report["stopped_by_action"], serde_json::json!({ "defer": over }));
    let text = becalm_with(limits, &arguments);
    assert!(text.contains("by a rate limit") && text.contains("deferred: may come again"), "{text}");
}

#[test]
fn near_storms_are_told_of_every_rule_of_ours_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.toml");
    std::fs::write(&file, "").unwrap();
    let (file, scenario) = (file.to_str().unwrap(), "calm-congratulation-400");
    let output = becalm(&[
        "replay",
        "--scenario",
        scenario,
        "--json",
        "--policy",
        "exchange-online",
        "--policy",
        file,
    ]);
    let report: Value = serde_json::from_str(&output).unwrap();
    let [theirs, ours] = [0, 1].map(|place| &report["policies"][place]);
    assert!(theirs["near_storms"].is_null() && theirs["quietest"].is_null(), "{theirs}");
    assert!(ours["near_storms"].is_array(), "{ours}");
    assert!(!ours["quietest"][format!("{scenario}@staff.example")].is_null(), "{ours}");
    let text = becalm(&["replay", "--scenario", scenario, "--policy", "exchange-online"]);
    assert!(text.contains("near-storms and quietest thresholds are told of becalm's rule only"), "{text}");
}

use proptest::prelude::*;

use super::*;

fn parse(value: &[u8]) -> Subject<'static> {
    let clean = clean(value);
    let Subject { base, reply, forward } = Subject::parse(&clean);
    Subject { base: base.into_owned().into(), reply, forward }
}

fn base(value: &str) -> String {
    parse(value.as_bytes()).base.into_owned()
}

fn kind(value: &str) -> (String, bool, bool) {
    let Subject { base, reply, forward } = parse(value.as_bytes());
    (base.into_owned(), reply, forward)
}

#[test]
fn prefixes_of_every_language_come_off() {
    for value in [
        "Lunch",
        "Re: Lunch",
        "RE:lunch",
        "re : LUNCH",
        "Re[2]: lunch",
        "Re(12): lunch",
        "Re^3: lunch",
        "Re*2: lunch",
        "AW: lunch",
        "SV: lunch",
        "VS: lunch",
        "Antw: lunch",
        "RIF: lunch",
        "RES: lunch",
        "ODP: lunch",
        "YNT: lunch",
        "R: lunch",
        "回复: lunch",
        "回复：lunch",
        "答复：Re: lunch",
        "回覆: AW: lunch",
        "תשובה: lunch",
        "\u{200f}תשובה: lunch",
        "=?utf-8?B?5Zue5aSN77yabHVuY2g=?=",
        "=?UTF-8?Q?Re=3A_Lunch?=",
        "Re:\n  Lunch",
        "  lunch\t",
        "Re: Re[2]: AW: lunch",
    ] {
        assert_eq!(base(value), "lunch", "{value}");
        assert_eq!(kind(value).1, !value.trim().to_lowercase().starts_with("lunch"), "{value}");
        assert!(!kind(value).2, "{value}");
    }
    for value in [
        "FW: lunch",
        "Fwd: lunch",
        "WG: lunch",
        "TR : lunch",
        "VB: lunch",
        "VL: lunch",
        "PD: lunch",
        "RV: lunch",
        "ENC: lunch",
        "İLT: lunch",
        "转发：lunch",
        "[Fwd: lunch]",
        "lunch (fwd)",
        "[Fwd: [Fwd: lunch]]",
    ] {
        assert_eq!(kind(value), ("lunch".into(), false, true), "{value}");
    }
    assert_eq!(kind("Fwd: Re: lunch"), ("lunch".into(), true, true));
}

#[test]
fn list_tags_stay_and_hide_no_prefix() {
    for value in [
        "[USRP-users] E320 failure",
        "Re: [USRP-users] E320 failure",
        "[USRP-users] Re: E320 failure",
        "AW: [USRP-users] Re: [USRP-users]  E320\n failure",
    ] {
        assert_eq!(base(value), "[usrp-users] e320 failure", "{value}");
    }
    assert_eq!(base("[PATCH v2 1/2] [hv] Re: x: fix"), "[patch v2 1/2] [hv] x: fix");
    assert_eq!(base("[open"), "[open");
    assert_eq!(base("[a] x (fwd)"), "[a] x");
    assert_eq!(base("[a] [a]"), "[a]");
    // As long as what it is made of, and another.
    assert_eq!(base("[a][b][c]re:x"), "[a] [b] [c] x");
    assert_eq!(base(&format!("[a] {}", "b".repeat(300))), format!("[a] {}", "b".repeat(246)));
}

#[test]
fn what_looks_like_a_prefix_stays() {
    for value in [
        "real: thing",
        "report: x",
        "re[x]: y",
        "re",
        "req: y",
        "aws: outage",
        "re-think: y",
        "hv_netvsc: fix",
        "re[]: y",
    ] {
        assert_eq!(kind(value), (value.into(), false, false));
    }
}

#[test]
fn eight_bit_and_broken_encodings_are_survived() {
    assert_eq!(parse(b"Re: caf\xe9").base, "caf\u{fffd}");
    assert_eq!(base("Re: =?utf-8?B?"), "=?utf-8?b?");
    assert_eq!(base("=?x-unknown?Q?Re:_caf=C3=A9?="), "café");
    assert_eq!(base(&"ä".repeat(200)).len(), 250);
    assert_eq!(base(""), "");
    assert_eq!(kind("Re:"), (String::new(), true, false));
}

proptest! {
    #[test]
    fn prefixes_never_change_the_base(
        subject in "(\\[[a-z ]{1,8}\\] ){0,2}[ -<>-~äß回\u{200e}]{0,40}( \\(fwd\\))?",
        prefixes in prop::collection::vec(prop::sample::select(vec!["Re: ", "re:", "AW: ", "Re[2]: ", "RE(3) : ", "回复：", "Fwd: ", " wg :\n "]), 1..5),
    ) {
        let answered = format!("{}{subject}", prefixes.concat());
        let found = parse(answered.as_bytes());
        prop_assert_eq!(&found.base, &base(&subject));
        prop_assert!(found.reply || found.forward);
        // A base subject is its own.
        prop_assert_eq!(&base(&found.base), &found.base);
    }

    #[test]
    fn any_subject_has_a_base(value in prop::collection::vec(any::<u8>(), 0..300)) {
        let found = parse(&value);
        prop_assert!(found.base.len() <= MAX_BASE);
        prop_assert!(!found.base.starts_with(' ') && !found.base.ends_with(' '));
    }
}

proptest::proptest! {
    #[test]
    fn plain_subjects_are_cleaned_as_all_others(value in "[ -~\t\r\n\x00-\x1f\x7f]{0,40}") {
        // A character that is dropped takes it off the short way.
        let long_way = clean(format!("{value}\u{200b}").as_bytes());
        proptest::prop_assert_eq!(clean(value.as_bytes()), long_way);
    }
}

//! `Accept-Language` (RFC 9110, 12.5.4).

use super::template::{Template, Templates};

/// Ranges that are looked at: browsers send a handful.
const MAX_RANGES: usize = 20;

/// The language that a reader likes best of those there are; else `default`, else English.
pub fn preferred<'a>(templates: &'a Templates, accept: Option<&str>, default: &str) -> Option<&'a Template> {
    let fallback = || templates.get(default).or_else(|| templates.get("en"));
    let ranges = accept.unwrap_or_default().split(',').take(MAX_RANGES).enumerate();
    let mut wishes: Vec<(u16, usize, &str)> = ranges
        .filter_map(|(place, range)| {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().strip_prefix("q=").and_then(per_mille)?;
            (weight > 0).then_some((weight, place, tag.trim()))
        })
        .collect();
    wishes.sort_by_key(|(weight, place, _)| (std::cmp::Reverse(*weight), *place));
    let found = wishes.into_iter().find_map(|(_, _, tag)| match tag {
        "*" => fallback(),
        tag => templates.get(tag),
    });
    found.or_else(fallback)
}

/// `1`, `0.8`, at most three digits after the point.
fn per_mille(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let rest: u16 = format!("{rest:0<3}").parse().ok()?;
    match whole {
        "0" => Some(rest),
        "1" if rest == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_get_what_they_like_best() {
        let templates = Templates::default();
        let cases = [
            ("", "en"),
            ("de", "de"),
            ("de-CH, en;q=0.5", "de"),
            ("it, pt;q=0.9, ES-mx;q=0.8, en;q=0.7", "es"),
            ("en;q=0.2, fr;q=0.9", "fr"),
            ("fr;q=0, de;q=0.1", "de"),
            ("it, *;q=0.1", "en"),
            ("de;q=7, fr;q=x, es;q=0.1234", "en"),
            ("\u{1f4e7};;;==,,,", "en"),
        ];
        for (accept, language) in cases {
            let found = preferred(&templates, Some(accept), "en").unwrap();
            assert_eq!(found.language, language, "{accept}");
        }
        assert_eq!(preferred(&templates, None, "fr").unwrap().language, "fr");
        assert_eq!(preferred(&templates, None, "xx").unwrap().language, "en");
    }
}

//! Durations as the Gateway API writes them: "1h30m", "500ms"; at most four numbers of at most five digits.

/// Milliseconds.
pub(crate) fn parse(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        if digits > 5 {
            return None;
        }
        let unit = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(unit)?;
        let factor: u64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        total += number.parse::<u64>().ok()? * factor;
        rest = after;
        parts += 1;
    }
    if !(1..=4).contains(&parts) {
        return None;
    }
    // More than 49 days is as good as for ever, but must not wrap.
    Some(u32::try_from(total).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("1h2m3s4ms", Some(3_723_004)),
            ("99999h", Some(u32::MAX)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1d", None),
            ("1s1s1s1s1s", None),
            ("1 s", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}

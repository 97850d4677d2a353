//! Lengths of time, as they are written on the command line: `30d`, `12h`, `15m`, `90s`, `0`.

use std::time::Duration;

/// Reads a length of time, for clap.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let refused = || "write a whole number and d, h, m or s, as 30d or 12h; or 0".to_owned();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds = match text.strip_prefix(digits).unwrap_or_default() {
        "d" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        "" if digits == "0" => 1,
        _ => return Err(refused()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let count: u64 = digits.parse().map_err(|_| refused())?;
    let seconds = count.checked_mul(seconds).ok_or_else(refused)?;
    Ok(Duration::from_secs(seconds))
}

/// The same, written for a person.
pub(super) fn show(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, name) in [(24 * 3600, "d"), (3600, "h"), (60, "m")] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{}{name}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_shown() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("12h", 43_200),
            ("15m", 900),
            ("90s", 90),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(show(Duration::from_secs(seconds)), text);
        }
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("0d"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for bad in [
            "",
            "d",
            "7",
            "7w",
            "-7d",
            "+7d",
            "1.5d",
            "7 d",
            "7dd",
            "7D",
            "99999999999999999999d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("300000000000000d").is_err());
    }
}

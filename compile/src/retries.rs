//! When a rule of an HTTPRoute sends requests again.

use gateway_api::apis::experimental::httproutes::HttpRouteRulesRetry;
use snapshot::proto::Retry;

use crate::durations;

/// A request may cost so many more at most: more would turn a small failure into a flood.
const MAX_ATTEMPTS: i64 = 10;
/// Where a rule does not say how long to wait.
const DEFAULT_BACKOFF_MS: u32 = 25;

/// Reads `retry`.
///
/// # Errors
/// The field and what is wrong with it.
pub(crate) fn read(spec: &HttpRouteRulesRetry) -> Result<Retry, (String, String)> {
    let at = |field: &str, message: String| (format!("retry.{field}"), message);
    let attempts = spec.attempts.unwrap_or(1);
    let attempts = u32::try_from(attempts)
        .ok()
        .filter(|attempts| i64::from(*attempts) <= MAX_ATTEMPTS)
        .ok_or_else(|| at("attempts", format!("must be between 0 and {MAX_ATTEMPTS}")))?;
    let codes = spec.codes.iter().flatten().map(|code| {
        u32::try_from(*code)
            .ok()
            .filter(|code| (400..=599).contains(code))
            .ok_or_else(|| at("codes", format!("{code} is not between 400 and 599")))
    });
    let backoff_ms = match &spec.backoff {
        None => DEFAULT_BACKOFF_MS,
        Some(text) => durations::parse(text).ok_or_else(|| {
            at(
                "backoff",
                "is no duration such as 1m30s or 500ms".to_owned(),
            )
        })?,
    };
    Ok(Retry {
        attempts,
        codes: codes.collect::<Result<_, _>>()?,
        backoff_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_bounds() {
        let spec = |attempts, codes: &[i64], backoff: Option<&str>| HttpRouteRulesRetry {
            attempts,
            codes: Some(codes.to_vec()),
            backoff: backoff.map(str::to_owned),
        };
        let read = |attempts, codes: &[i64], backoff| read(&spec(attempts, codes, backoff));
        assert_eq!(
            read(None, &[500], None),
            Ok(Retry {
                attempts: 1,
                codes: vec![500],
                backoff_ms: DEFAULT_BACKOFF_MS
            })
        );
        assert_eq!(read(Some(3), &[], Some("1s")).unwrap().backoff_ms, 1000);
        for (attempts, code, backoff) in [
            (11, 500, None),
            (-1, 500, None),
            (1, 200, None),
            (1, 500, Some("x")),
        ] {
            assert!(read(Some(attempts), &[code], backoff).is_err());
        }
    }
}

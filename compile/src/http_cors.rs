//! CORS filters.

use gateway_api::apis::experimental::httproutes::HttpRouteRulesFiltersCors;
use snapshot::proto::Cors;

use crate::http_matches::is_token;

/// What browsers may be told to remember a preflight for at most: a day, as they do themselves.
const MAX_AGE: i32 = 86_400;
/// What the Gateway API says where a filter does not.
const DEFAULT_MAX_AGE: u32 = 5;

/// Reads a filter.
///
/// # Errors
/// The field and what is wrong with it.
pub(crate) fn read(spec: &HttpRouteRulesFiltersCors) -> Result<Cors, (String, String)> {
    let at = |field: &str, message: String| (format!("cors.{field}"), message);
    let origins = spec.allow_origins.as_deref().unwrap_or_default();
    for origin in origins {
        check_origin(origin).map_err(|message| at("allowOrigins", message))?;
    }
    let names = |field: &str, names: &[String]| {
        for name in names {
            if name != "*" && !is_token(name) {
                return Err(at(field, format!("{name:?} is no name")));
            }
        }
        if names.len() > 1 && names.iter().any(|name| name == "*") {
            return Err(at(field, "\"*\" stands alone".to_owned()));
        }
        Ok(names.to_vec())
    };
    let methods: Vec<String> = spec.allow_methods.iter().flatten().cloned().collect();
    let max_age = match spec.max_age {
        None => DEFAULT_MAX_AGE,
        Some(seconds) => u32::try_from(seconds.min(MAX_AGE))
            .ok()
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| at("maxAge", "must be at least 1".to_owned()))?,
    };
    Ok(Cors {
        allow_origins: origins.to_vec(),
        allow_methods: names("allowMethods", &methods)?,
        allow_headers: names(
            "allowHeaders",
            spec.allow_headers.as_deref().unwrap_or_default(),
        )?,
        expose_headers: names(
            "exposeHeaders",
            spec.expose_headers.as_deref().unwrap_or_default(),
        )?,
        allow_credentials: spec.allow_credentials.unwrap_or_default(),
        max_age,
    })
}

/// "*", or scheme, host and perhaps a port; the host may begin with "*." for any labels.
pub(crate) fn check_origin(origin: &str) -> Result<(), String> {
    if origin == "*" {
        return Ok(());
    }
    let wrong = || {
        format!("{origin:?} is no origin such as https://a.test, https://*.a.test:8443 or \"*\"")
    };
    let (scheme, rest) = origin.split_once("://").ok_or_else(wrong)?;
    let scheme_is_fine = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let host = rest.strip_prefix("*.").unwrap_or(rest);
    let host = if rest == "*" { "" } else { host };
    let host_is_fine = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte));
    if scheme_is_fine && host_is_fine && (!host.is_empty() || rest == "*") {
        Ok(())
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for good in [
            "*",
            "https://a.test",
            "http://*.a.test",
            "https://a.test:8443",
            "https://*",
            "app://x",
        ] {
            assert_eq!(check_origin(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.test",
            "https://",
            "https://a/b",
            "https://*a.test",
            "1://a",
            "null",
        ] {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }
}

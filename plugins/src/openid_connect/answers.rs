//! Answers of the plugin's own.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, REFRESH,
    RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::handler::{Answer, Verdict};

/// Sends the browser elsewhere.
pub(super) fn redirect(location: &str, reason: &'static str) -> Verdict {
    let Ok(location) = HeaderValue::try_from(location) else {
        return page(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The sign-in cannot be started",
            "The address to go to cannot be written down.",
            ("", "bad_location"),
        );
    };
    let mut headers = uncached();
    headers.insert(LOCATION, location);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer(StatusCode::FOUND, headers, Bytes::new(), reason)
}

/// Sends the browser elsewhere as if from a page of this site.
pub(super) fn onward(location: &str, reason: &'static str) -> Verdict {
    let Ok(refresh) = HeaderValue::try_from(format!("0; url={location}")) else {
        return redirect(location, reason);
    };
    let mut headers = uncached();
    headers.insert(REFRESH, refresh);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let body = Bytes::from_static(b"<!doctype html><title>Signed in</title>\n");
    answer(StatusCode::OK, headers, body, reason)
}

/// A page for a person: what happened, and the number to ask about. Nothing in it comes from the request but that number.
pub(super) fn page(
    status: StatusCode,
    title: &str,
    text: &str,
    (request_id, reason): (&str, &'static str),
) -> Verdict {
    let safe: String = request_id
        .chars()
        .filter(|char| char.is_ascii_alphanumeric() || "-_.".contains(*char))
        .collect();
    let number = if safe.is_empty() {
        String::new()
    } else {
        format!("<p>Request <code>{safe}</code></p>")
    };
    let body = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p>{number}</body></html>\n"
    );
    let mut headers = uncached();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    answer(status, headers, Bytes::from(body), reason)
}

/// JSON for a program.
pub(super) fn json(status: StatusCode, body: &serde_json::Value, reason: &'static str) -> Verdict {
    let mut headers = uncached();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    answer(status, headers, Bytes::from(body.to_string()), reason)
}

/// The provider, or the store, cannot be asked now.
pub(super) fn unavailable(wants_page: bool, request_id: &str, reason: &'static str) -> Verdict {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    if wants_page {
        let text =
            "The service that signs people in does not answer. Please try again in a moment.";
        return page(
            status,
            "Signing in is not possible now",
            text,
            (request_id, reason),
        );
    }
    let message = "the identity provider does not answer; try again later";
    json(status, &serde_json::json!({ "message": message }), reason)
}

fn answer(status: StatusCode, headers: HeaderMap, body: Bytes, reason: &'static str) -> Verdict {
    Verdict::Answer(Box::new(Answer {
        status,
        headers,
        body,
        reason,
    }))
}

fn uncached() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, max-age=0"),
    );
    headers
}

//! What the browser shows.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Asked;

/// The form for name, password and consent.
pub(super) fn form(status: StatusCode, asked: &Asked, wrong: Option<&str>) -> Response {
    let scopes: String = asked
        .scope
        .iter()
        .flat_map(|scope| scope.split(' '))
        .filter(|scope| !scope.is_empty())
        .map(|scope| format!("<li>{}</li>", escaped(scope)))
        .collect();
    let wants = match scopes.as_str() {
        "" => String::new(),
        scopes => format!("<p>It asks for:</p><ul>{scopes}</ul>"),
    };
    let wrong = wrong.map_or_else(String::new, |wrong| {
        format!("<p role=\"alert\">{}</p>", escaped(wrong))
    });
    let kept = serde_json::to_string(asked).unwrap_or_default();
    html(
        status,
        &format!(
            "<h1>Sign in</h1>{wrong}\
             <p>The application <strong>{}</strong> wants to act for you.</p>{wants}\
             <form method=\"post\"><input type=\"hidden\" name=\"asked\" value=\"{}\">\
             <p><label>Name <input name=\"username\" autocomplete=\"username\" required></label></p>\
             <p><label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" \
             required></label></p>\
             <p><button name=\"answer\" value=\"allow\">Sign in and allow</button> \
             <button name=\"answer\" value=\"deny\" formnovalidate>No</button></p></form>",
            escaped(&asked.client_id),
            escaped(&kept),
        ),
    )
}

pub(super) fn message(status: StatusCode, text: &str) -> Response {
    html(status, &format!("<p>{}</p>", escaped(text)))
}

/// Keeps pages and addresses with codes out of caches, frames and other sites' logs.
pub(super) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn html(status: StatusCode, body: &str) -> Response {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    guard(&mut headers);
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sign in</title>{body}</html>\n"
    );
    (status, headers, page).into_response()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

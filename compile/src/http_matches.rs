//! What an HTTPRoute's rules match.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType as HeadersType,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType as PathType,
    HttpRouteRulesMatchesQueryParamsType as QueryType,
};
use regex::RegexBuilder;
use snapshot::proto::{Match, PathMatch, ValueMatch, path_match};

/// The Gateway API's limit for paths and values.
const MAX_PATTERN: usize = 4096;
/// Bound of a compiled expression, the same as the proxies'.
const MAX_COMPILED: usize = 1 << 20;

/// Reads one match.
///
/// # Errors
/// The field and what is wrong with it. Such a match cannot be narrowed or widened: it matches nothing.
pub(crate) fn read(
    spec: &HttpRouteRulesMatches,
    expressions: &mut Expressions,
) -> Result<Match, (String, String)> {
    let path = spec
        .path
        .as_ref()
        .map(|path| read_path(path, expressions))
        .transpose()
        .map_err(|message| ("path".to_owned(), message))?;
    let mut headers: Vec<ValueMatch> = Vec::new();
    for (index, header) in spec.headers.iter().flatten().enumerate() {
        let at = |message| (format!("headers[{index}]"), message);
        let regex = header.r#type == Some(HeadersType::RegularExpression);
        if !is_token(&header.name) {
            return Err(at(format!("{:?} is no header name", header.name)));
        }
        if regex {
            expressions.check(&header.value).map_err(at)?;
        }
        let name = header.name.to_ascii_lowercase();
        // Of several entries of one name only the first counts, says the Gateway API.
        if !headers.iter().any(|other| other.name == name) {
            headers.push(ValueMatch {
                name,
                value: header.value.clone(),
                regex,
            });
        }
    }
    let mut query: Vec<ValueMatch> = Vec::new();
    for (index, parameter) in spec.query_params.iter().flatten().enumerate() {
        let regex = parameter.r#type == Some(QueryType::RegularExpression);
        if regex {
            expressions
                .check(&parameter.value)
                .map_err(|message| (format!("queryParams[{index}]"), message))?;
        }
        if !query.iter().any(|other| other.name == parameter.name) {
            query.push(ValueMatch {
                name: parameter.name.clone(),
                value: parameter.value.clone(),
                regex,
            });
        }
    }
    let method = spec.method.as_ref().map_or_else(String::new, |method| {
        format!("{method:?}").to_ascii_uppercase()
    });
    Ok(Match {
        path,
        headers,
        query,
        method,
    })
}

fn read_path(
    path: &HttpRouteRulesMatchesPath,
    expressions: &mut Expressions,
) -> Result<PathMatch, String> {
    let value = path.value.as_deref().unwrap_or("/");
    let kind = match path.r#type {
        None | Some(PathType::PathPrefix) => path_match::Type::Prefix,
        Some(PathType::Exact) => path_match::Type::Exact,
        Some(PathType::RegularExpression) => path_match::Type::Regex,
    };
    if kind == path_match::Type::Regex {
        expressions.check(value)?;
    } else {
        check_path(value)?;
    }
    Ok(PathMatch {
        r#type: kind.into(),
        value: value.to_owned(),
    })
}

/// A path that a canonical request path can equal or begin with.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("path {path:?} must begin with \"/\""));
    }
    if path.len() > MAX_PATTERN {
        return Err(format!(
            "the path must have at most {MAX_PATTERN} characters"
        ));
    }
    if path
        .bytes()
        .any(|byte| byte.is_ascii_control() || matches!(byte, b'?' | b'#' | b' '))
    {
        return Err(format!(
            "path {path:?} must not hold blanks, control characters, \"?\" or \"#\""
        ));
    }
    if path.contains("//")
        || path
            .split('/')
            .any(|segment| segment == "." || segment == "..")
    {
        return Err(format!(
            "path {path:?} must be canonical: without \"//\", \"/./\" and \"/../\""
        ));
    }
    Ok(())
}

/// Expressions that were compiled before.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    known: BTreeMap<String, Result<(), String>>,
    used: BTreeMap<String, Result<(), String>>,
}

impl Expressions {
    fn check(&mut self, expression: &str) -> Result<(), String> {
        if let Some(result) = self.used.get(expression) {
            return result.clone();
        }
        let result = self
            .known
            .remove(expression)
            .unwrap_or_else(|| check_expression(expression));
        self.used.insert(expression.to_owned(), result.clone());
        result
    }

    /// A pass is over: what it did not ask for is not in any route any more.
    pub(crate) fn forget_unused(&mut self) {
        self.known = std::mem::take(&mut self.used);
    }
}

pub(crate) fn check_expression(expression: &str) -> Result<(), String> {
    if expression.len() > MAX_PATTERN {
        return Err(format!(
            "the regular expression must have at most {MAX_PATTERN} characters"
        ));
    }
    // Alone first, because the brackets of the anchored form, which is what proxies run, must not repair it.
    let compile = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .build()
            .map(drop)
    };
    compile(expression).and_then(|()| compile(&format!("^(?:{expression})$"))).map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{expression:?} cannot be used as a regular expression (RE2 syntax, no look-around): {last}")
    })
}

/// Whether a text is an HTTP token, as names of headers are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["/", "/a", "/a/", "/a%2Fb", "/ü"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "/a//b", "/a/../b", "/./a", "/a b", "/a?b", "/a#b"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn expressions() {
        assert_eq!(check_expression("/a|/b[0-9]+"), Ok(()));
        for bad in ["(", "a)(b", "(?=a)", "(a{1000}){1000}", "(?x)a #"] {
            assert!(check_expression(bad).is_err(), "{bad}");
        }
    }
}

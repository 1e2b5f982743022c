//! Rules that a schema alone cannot express: written in CEL for the API server, and checked by the same words in Rust
//! where no API server has seen the object.

use serde_json::{Value, json};

/// A CEL rule and what is said where it does not hold.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The CEL expression; `self` is the value it stands at.
    pub cel: &'static str,
    /// What is wrong, and the remedy.
    pub message: &'static str,
}

/// The value of a schema's `x-kubernetes-validations`.
#[must_use]
pub fn rules(rules: &[Rule]) -> Value {
    rules
        .iter()
        .map(|rule| json!({"rule": rule.cel, "message": rule.message}))
        .collect()
}

/// Whether a text can be the name of a header or of a cookie: a token of RFC 9110.
pub(crate) fn is_header_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Key names are header names too.
pub(crate) const KEY_NAMES: Rule = Rule {
    cel: "self.all(name, name.matches(\"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$\"))",
    message: "may hold only characters of header names: letters, digits and !#$%&'*+-.^_`|~ (no blanks)",
};

/// Otherwise no request could ever pass.
pub(crate) const KEY_PLACES: Rule = Rule {
    cel: "self.keyInHeader || self.keyInQuery || self.keyInBody",
    message: "keyAuth searches nowhere: set at least one of keyInHeader, keyInQuery and keyInBody to true",
};

/// Names of headers and cookies.
pub(crate) const HEADER_NAMES: Rule = KEY_NAMES;

/// Otherwise no request could ever pass.
pub(crate) const TOKEN_PLACES: Rule = Rule {
    cel: "size(self.uriParamNames) + size(self.cookieNames) + size(self.headerNames) > 0",
    message: "jwt searches nowhere: name something in uriParamNames, cookieNames or headerNames",
};

/// A lifetime can only be judged where there has to be one.
pub(crate) const EXPIRATION: Rule = Rule {
    cel: "self.maximumExpiration == 0 || 'exp' in self.claimsToVerify",
    message: "maximumExpiration needs exp in claimsToVerify: add it, or set maximumExpiration to 0",
};

/// URLs that can be called, or sent to a browser. The path is the same for everybody who reads the URL: it is ASCII, and has no fragment.
pub const HTTP_URL: Rule = Rule {
    cel: "self.matches('^[!-~]+$') && self.matches('^https?://[^/?#@]+([/?][^#]*)?$')",
    message: "must be an absolute URL, https://host/path or http://host/path, of printable ASCII, without user, password and \
              fragment",
};

/// Whether [`HTTP_URL`] holds.
#[must_use]
pub fn is_http_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains('#')
        && !host.is_empty()
        && !host.contains('@')
}

/// Whether a URL is called in the clear, beyond this machine: whoever is on the way can change the answer.
#[must_use]
pub fn is_in_the_clear(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = |address: std::net::IpAddr| address.is_loopback();
    !(host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(loopback))
}

/// The name of one header.
pub(crate) const HEADER_NAME: Rule = Rule {
    cel: "self.matches(\"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$\")",
    message: "may hold only characters of header names: letters, digits and !#$%&'*+-.^_`|~ (no blanks)",
};

/// Whether a text is a scope of RFC 6749, section 3.3: printable ASCII without blanks, quotes and backslashes.
pub(crate) fn is_scope(text: &str) -> bool {
    text.bytes()
        .all(|byte| (b'!'..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\'))
}

/// Scopes are listed with blanks between them.
pub(crate) const SCOPES: Rule = Rule {
    cel: r#"self.all(scope, scope.matches('^[!#-\\[\\]-~]+$'))"#,
    message: "may hold only printable ASCII characters, no blanks, quotes and backslashes",
};

/// Otherwise no token could ever be issued.
pub(crate) const GRANTS: Rule = Rule {
    cel: "self.enableAuthorizationCode || self.enableClientCredentials || self.enableImplicitGrant || self.enablePasswordGrant",
    message: "oauth2 issues no tokens: set at least one of enableAuthorizationCode, enableClientCredentials, \
              enableImplicitGrant and enablePasswordGrant to true",
};

/// A scope that must be asked for has to be on offer.
pub(crate) const MANDATORY_SCOPE: Rule = Rule {
    cel: "!self.mandatoryScope || size(self.scopes) > 0",
    message: "mandatoryScope needs scopes: name at least one, or set mandatoryScope to false",
};

/// Whether a text is the https address of a server or a page.
pub(crate) fn is_https_url(text: &str) -> bool {
    text.strip_prefix("https://").is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && rest.bytes().all(|byte| {
                (b'!'..=b'~').contains(&byte) && !matches!(byte, b'"' | b'#' | b'?' | b'\\')
            })
    })
}

/// Addresses that clients are told.
pub(crate) const HTTPS_URL: Rule = Rule {
    cel: r#"self.matches('^https://[A-Za-z0-9\\[][!$->@-\\[\\]-~]*$')"#,
    message: "must be an https:// address without query and fragment",
};

/// The realm becomes a quoted string of a header.
pub(crate) const REALM: Rule = Rule {
    cel: "self.matches('^[ -~]+$')",
    message: "may hold only printable ASCII characters",
};

/// Names of cookies that get endings.
pub(crate) const COOKIE_NAME: Rule = Rule {
    cel: "self.matches('^[A-Za-z0-9_.-]+$')",
    message: "may hold only letters, digits and -_.",
};

/// A map of parameters.
pub(crate) fn parameters(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 2048},
    })
}

/// A method of anyOf is one.
pub(crate) const ONE_METHOD: Rule = Rule {
    cel: "[has(self.keyAuth), has(self.jwt), has(self.oauth2), has(self.openidConnect)].exists_one(given, given)",
    message: "a method of anyOf is exactly one block, keyAuth, jwt, oauth2 or openidConnect: make an item for each",
};

/// Whether a method has an anonymous Consumer.
macro_rules! has_anonymous {
    () => {
        "(has(method.keyAuth) && has(method.keyAuth.anonymous)) \
         || (has(method.jwt) && has(method.jwt.anonymous)) \
         || (has(method.oauth2) && has(method.oauth2.anonymous))"
    };
}

/// Whether a method is openidConnect with sessions, and does this for those who have none.
macro_rules! has_unauth_action {
    ($action:literal) => {
        concat!(
            "has(method.openidConnect) && !method.openidConnect.bearerOnly && method.openidConnect.unauthAction == '",
            $action,
            "'"
        )
    };
}

/// It would keep those behind it from being tried.
pub(crate) const ANONYMOUS_LAST: Rule = Rule {
    cel: concat!(
        "self.map(method, ",
        has_anonymous!(),
        ").indexOf(true) in [-1, size(self) - 1]"
    ),
    message: "anonymous counts when no method has found anybody: give it to the last method only",
};

/// The same, for those who have not signed in.
pub(crate) const PASS_LAST: Rule = Rule {
    cel: concat!(
        "self.map(method, ",
        has_unauth_action!("pass"),
        ").indexOf(true) in [-1, size(self) - 1]"
    ),
    message: "unauthAction: pass counts when no method has found anybody: put that openidConnect at the end of the list, or \
              choose auth or deny",
};

/// Otherwise nobody could ever sign in.
pub(crate) const SIGN_IN_OR_ANONYMOUS: Rule = Rule {
    cel: concat!(
        "!self.exists(method, ",
        has_unauth_action!("auth"),
        ") || !self.exists(method, ",
        has_anonymous!(),
        ")"
    ),
    message: "with anonymous nobody is ever sent to sign in: set unauthAction of openidConnect to deny, or remove anonymous",
};

/// Its endpoints are on the paths of the route, and its generated key has one place.
pub(crate) const ONE_OAUTH2: Rule = Rule {
    cel: "size(self.filter(method, has(method.oauth2))) <= 1",
    message: "anyOf takes oauth2 once: only one can answer at /oauth2/token; make an AuthPlugin for each",
};

/// Its callback is on the paths of the route, and its generated secret has one place.
pub(crate) const ONE_OPENID_CONNECT: Rule = Rule {
    cel: "size(self.filter(method, has(method.openidConnect))) <= 1",
    message: "anyOf takes openidConnect once: only one can send browsers to sign in; make an AuthPlugin for each",
};

/// An acl that says both or nothing has no meaning.
pub(crate) const ALLOW_XOR_DENY: Rule = Rule {
    cel: "(has(self.allow) && size(self.allow) > 0) != (has(self.deny) && size(self.deny) > 0)",
    message: "acl needs exactly one of allow and deny: list the groups in one of them and remove the other",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_called() {
        for good in [
            "https://idp.test",
            "https://idp.test/",
            "http://idp.test:8080/realms/a?b=c@d",
            "https://[::1]:8443/keys",
            "https://idp.test?keys",
        ] {
            assert!(is_http_url(good), "{good}");
        }
        for bad in [
            "",
            "idp.test/keys",
            "ftp://idp.test/",
            "HTTPS://idp.test/",
            "https://",
            "https:///keys",
            "https://?keys",
            "https://user:secret@idp.test/",
            "https://idp.test/#keys",
            "https://idp.test/ keys",
            "https://idp.test/\n",
            "https://idp.t\u{e9}st/",
        ] {
            assert!(!is_http_url(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_called_in_the_clear() {
        for clear in [
            "http://idp.test/",
            "http://10.0.0.1:80?x",
            "http://localhost.evil.test/",
            "http://[fe80::1]/",
        ] {
            assert!(is_in_the_clear(clear), "{clear}");
        }
        for safe in [
            "https://idp.test/",
            "http://localhost:8080/",
            "http://127.1.2.3/",
            "http://[::1]:80/",
        ] {
            assert!(!is_in_the_clear(safe), "{safe}");
        }
    }
}

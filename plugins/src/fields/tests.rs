use std::path::Path;

use proptest::prelude::*;

use super::*;

const NAME: &str = "apikey";

/// Texts made of what parsers trip over.
fn scraps(alphabet: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(alphabet), 0..most)
        .prop_map(|parts| parts.concat())
}

const FORM_SCRAPS: &[&str] = &[
    "apikey", "api%6bey", "=", "=", "&", "&", "a", "api", "key", "+", "%", "%2", "%26", "%3d",
    "[]", "%00", "\u{e4}",
];
const JSON_SCRAPS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"apikey\"",
    "\"\\u0061pikey\"",
    "\"a\"",
    "1",
    "-0.0e9",
    "null",
    "true",
    " ",
    "\n",
    "\"",
    "\\",
    "\\ud800",
    "\u{e4}",
    "{\"a\":1}",
    "\"apikey\":1,",
    "\"a\":[],",
];
const MULTIPART_SCRAPS: &[&str] = &[
    "--XX",
    "--XX\r\n",
    "\r\n--XX\r\n",
    "\r\n--XX--",
    "--",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "Content-Disposition: form-data; ",
    "name=\"apikey\"",
    "name=a",
    "; name=\"a\\\"\"",
    "; filename*=x",
    ":",
    "X: y",
    "value",
    " ",
    "\"",
    ";",
];

fn multipart() -> Format {
    Format::Multipart(b"XX".to_vec())
}

proptest! {
    #[test]
    fn invariants_hold_for_queries(query in scraps(FORM_SCRAPS, 24)) {
        invariants::query(&query);
    }

    #[test]
    fn invariants_hold_for_forms(body in scraps(FORM_SCRAPS, 24)) {
        invariants::body(&Format::Form, body.as_bytes());
    }

    #[test]
    fn invariants_hold_for_json(body in scraps(JSON_SCRAPS, 24)) {
        invariants::body(&Format::Json, body.as_bytes());
    }

    #[test]
    fn invariants_hold_for_multipart(body in scraps(MULTIPART_SCRAPS, 24)) {
        invariants::body(&multipart(), body.as_bytes());
    }

    #[test]
    fn invariants_hold_for_any_bytes(body in proptest::collection::vec(any::<u8>(), 0..256)) {
        invariants::query(&String::from_utf8_lossy(&body));
        for format in [Format::Form, Format::Json, multipart()] {
            invariants::body(&format, &body);
        }
    }

    #[test]
    fn headers_never_panic(header in proptest::collection::vec(any::<u8>(), 0..64), tail in scraps(MULTIPART_SCRAPS, 8)) {
        let _ = parameter::find(&header, "name");
        let mut headers = HeaderMap::new();
        let text = format!("multipart/form-data; boundary={tail}");
        if let Ok(value) = http::HeaderValue::try_from(text) {
            headers.insert(CONTENT_TYPE, value);
            let _ = Format::of(&headers);
        }
    }

    /// Another parser of forms finds the same.
    #[test]
    fn forms_are_read_as_others_read_them(text in scraps(FORM_SCRAPS, 24)) {
        let parameters: Vec<&str> = text.split('&').filter(|parameter| !parameter.is_empty()).collect();
        let named = |parameter: &&&str| {
            form_urlencoded::parse(parameter.as_bytes()).next().is_some_and(|(name, _)| name == NAME)
        };
        let expected = match parameters.iter().filter(named).collect::<Vec<_>>()[..] {
            [] => Field::Absent,
            [one] if !one.contains('=') => Field::NotText,
            [one] => {
                let value = form_urlencoded::parse(one.as_bytes()).next().unwrap().1.into_owned();
                // It replaces what is no UTF-8; nothing else here does.
                prop_assume!(!value.contains('\u{fffd}'));
                Field::text(value.into_bytes())
            }
            _ => Field::Repeated,
        };
        prop_assert_eq!(in_query(&text, NAME), Ok(expected));
        let kept: Vec<&str> = text.split('&').filter(|parameter| !named(&parameter)).collect();
        prop_assert_eq!(query_without(&text, NAME).unwrap_or_else(|| text.clone()), kept.join("&"));
    }

    /// Every byte of what is kept stays, the commas between apart.
    #[test]
    fn json_members_are_cut_out(
        members in proptest::collection::vec((
            proptest::sample::select(&["\"apikey\"", "\"\\u0061pikey\"", "\"a\"", "\"\"", "\"APIKEY\"", "\"\u{e4}\\n\""][..]),
            proptest::sample::select(&["1", "-1.50E+2", "\"apikey\"", "[ {\"apikey\":1} ]", "{ \"apikey\" : {}}", "null"][..]),
            proptest::sample::select(&["", " ", "\n\t"][..]),
        ), 0..8),
    ) {
        let written = |members: &[&(&str, &str, &str)]| -> Vec<String> {
            members.iter().map(|(key, value, blank)| format!("{key}{blank}:{blank}{value}")).collect()
        };
        let goes = |member: &&(&str, &str, &str)| ["\"apikey\"", "\"\\u0061pikey\""].contains(&member.0);
        let all: Vec<_> = members.iter().collect();
        let kept: Vec<_> = members.iter().filter(|member| !goes(member)).collect();
        for separator in [",", " , ", "\n,\t"] {
            let text = format!(" {{ {} }} ", written(&all).join(separator));
            let expected = format!(" {{ {} }} ", written(&kept).join(separator));
            let rest = Format::Json.without(text.as_bytes(), NAME).unwrap();
            prop_assert_eq!(rest.is_none(), kept.len() == all.len());
            prop_assert_eq!(String::from_utf8(rest.unwrap_or_else(|| text.into_bytes())).unwrap(), expected);
        }
    }

    /// Another parser of multipart finds the same, and whole parts are cut out.
    #[test]
    fn multipart_is_read_as_others_read_it(
        parts in proptest::collection::vec((
            proptest::sample::select(&["apikey", "a", "api key", "\u{e4}", "a;b=c"][..]),
            scraps(&["value", "\r\n", "\r", "\n", "-", "--XX", "--X", "=", " "], 8)
                .prop_filter("the boundary ends a value", |value| !format!("\r\n{value}\r\n").contains("\r\n--XX")),
        ), 1..6),
        preamble in proptest::sample::select(&["", "preamble\r\n", "\r\n"][..]),
        padding in proptest::sample::select(&["", " ", "\t "][..]),
    ) {
        let write = |parts: &[&(&str, String)]| {
            let parts: String = parts
                .iter()
                .map(|(name, value)| {
                    format!("--XX{padding}\r\nX: y\r\ncontent-disposition: form-data; name=\"{name}\"; x\r\n\r\n{value}\r\n")
                })
                .collect();
            format!("{preamble}{parts}--XX--\r\nepilogue")
        };
        let text = write(&parts.iter().collect::<Vec<_>>());
        let named: Vec<_> = parts.iter().filter(|(name, _)| *name == NAME).collect();
        let expected = match named[..] {
            [] => Field::Absent,
            [(_, value)] => Field::text(value.as_bytes()),
            _ => Field::Repeated,
        };
        prop_assert_eq!(multipart().find(text.as_bytes(), &[NAME]).unwrap(), vec![expected]);
        let kept: Vec<_> = parts.iter().filter(|(name, _)| *name != NAME).collect();
        let rest = multipart().without(text.as_bytes(), NAME).unwrap();
        prop_assert_eq!(rest.is_none(), kept.len() == parts.len());
        prop_assert_eq!(String::from_utf8(rest.unwrap_or_else(|| text.clone().into_bytes())).unwrap(), write(&kept));
        // It wants the boundary line bare, and the first one at the very start.
        if padding.is_empty() && preamble.is_empty() {
            let others = futures::executor::block_on(read_with_multer(text));
            let own: Vec<_> = parts.iter().map(|(name, value)| (Some((*name).to_owned()), value.clone())).collect();
            prop_assert_eq!(others, own);
        }
    }
}

async fn read_with_multer(text: String) -> Vec<(Option<String>, String)> {
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(text) });
    let mut reader = multer::Multipart::new(stream, "XX");
    let mut parts = Vec::new();
    while let Some(field) = reader.next_field().await.unwrap() {
        parts.push((field.name().map(str::to_owned), field.text().await.unwrap()));
    }
    parts
}

#[test]
fn parameters_are_told_apart() {
    let find = |header: &str| {
        parameter::find(header.as_bytes(), "name")
            .map(|found| found.map(|name| String::from_utf8(name).unwrap()))
    };
    for (header, expected) in [
        ("form-data", None),
        ("form-data; name=a", Some("a")),
        ("form-data;NAME=a ; filename=\"b\"", Some("a")),
        ("form-data; filename=\"x; name=b\"; name=\"a\"", Some("a")),
        ("form-data; name=\"a \\\"b\\\\ \\c\"", Some("a \"b\\ \\c")),
        ("form-data; name*=utf-8''b; xname=c", None),
        ("form-data; name", Some("")),
        ("form-data; name=\"\";", Some("")),
    ] {
        assert_eq!(find(header).unwrap().as_deref(), expected, "{header}");
    }
    for header in [
        "form-data; name=a; name=b",
        "form-data; name=\"a",
        "form-data; name=\"a\"b",
        "form-data; name=\"a\\\"",
    ] {
        assert!(find(header).is_err(), "{header}");
    }
}

#[test]
fn formats_are_told_by_the_headers() {
    let of = |lines: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        Format::of(&headers)
    };
    let kind = |value: &'static str| of(&[("content-type", value)]);
    assert_eq!(
        kind("application/x-www-form-urlencoded"),
        Some(Format::Form)
    );
    assert_eq!(kind("APPLICATION/JSON ; charset=utf-8"), Some(Format::Json));
    assert_eq!(
        kind("multipart/form-data; boundary=\"a b\""),
        Some(Format::Multipart(b"a b".to_vec()))
    );
    for other in [
        "application/jsonp",
        "application/problem+json",
        "text/plain; application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789x",
        "multipart/mixed; boundary=a",
        "",
    ] {
        assert_eq!(kind(other), None, "{other}");
    }
    assert_eq!(of(&[]), None);
    assert_eq!(
        of(&[
            ("content-type", "application/json"),
            ("content-type", "text/plain")
        ]),
        None
    );
    assert_eq!(
        of(&[
            ("content-type", "application/json"),
            ("content-encoding", "gzip")
        ]),
        None
    );
    assert_eq!(
        of(&[
            ("content-type", "application/json"),
            ("content-encoding", "identity")
        ]),
        Some(Format::Json)
    );
}

/// What the fuzzers start from, and what they have found.
#[test]
fn invariants_hold_for_the_corpus_of_the_fuzzers() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, check) in [
        (
            "query",
            (|bytes| std::str::from_utf8(bytes).map_or((), invariants::query)) as fn(&[u8]),
        ),
        ("form", |bytes| invariants::body(&Format::Form, bytes)),
        ("json", |bytes| invariants::body(&Format::Json, bytes)),
        ("multipart", |bytes| invariants::body(&multipart(), bytes)),
    ] {
        let mut seeds = 0;
        for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 3, "{target}");
    }
}

use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use snapshot::proto;

use super::*;
use crate::metrics::Metrics;
use crate::runtime::Chain;

/// A rule that can be told by its name.
fn rule(name: &str) -> Arc<Rule> {
    Arc::new(Rule {
        route: "HTTPRoute/n/r".into(),
        name: name.into(),
        listener: Arc::default(),
        plugins: Arc::default(),
        request_filters: vec![],
        response_filters: vec![],
        redirect: None,
        redirect_chain: Arc::new(Chain::default()),
        backends: vec![],
        total_weight: 0,
        request_timeout: None,
        backend_timeout: None,
        closed: None,
        extras: None,
        metrics: Metrics::new(1).rule(&"r".into()),
    })
}

#[derive(Debug, Clone)]
struct Given {
    listener: String,
    hostname: String,
    one_label: bool,
    matched: proto::Match,
    created: i64,
    route: String,
    rule: usize,
}

#[derive(Debug, Clone)]
struct Asked {
    host: String,
    path: String,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
}

fn build(given: &[Given], listeners: &[String]) -> Router {
    let (mut builder, mut regexes) = (Builder::default(), Regexes::default());
    for listener in listeners {
        builder.listener(listener);
    }
    for (at, one) in given.iter().enumerate() {
        let listener = builder.listener(&one.listener);
        let order = Order {
            created: one.created,
            name: one.route.as_str().into(),
            kind: "HTTPRoute".into(),
            rule: one.rule,
        };
        let matches = [Match::new(&one.matched, &mut regexes).unwrap()];
        builder.add(
            listener,
            (&one.hostname, one.one_label),
            &matches,
            &order,
            &rule(&at.to_string()),
        );
    }
    builder.build()
}

fn find(router: &Router, asked: &Asked) -> Option<usize> {
    let request = Request {
        host: &asked.host,
        path: &asked.path,
        query: asked.query.as_deref(),
        method: &asked.method,
        headers: &asked.headers,
    };
    router
        .find(&request)
        .map(|found| found.rule.name.parse().unwrap())
}

/// The rule that the survey says serves a request.
fn explained(router: &Router, asked: &Asked) -> Option<usize> {
    let request = Request {
        host: &asked.host,
        path: &asked.path,
        query: asked.query.as_deref(),
        method: &asked.method,
        headers: &asked.headers,
    };
    let rivals = router.survey(&request);
    let mut serving = rivals.iter().filter(|rival| rival.why == Why::Serves);
    let first = serving.next().map(|rival| rival.rule.name.parse().unwrap());
    assert!(serving.next().is_none());
    first
}

// What the standard says, written down as plainly as can be.

fn host_fits(pattern: &str, host: &str, one_label: bool) -> bool {
    match pattern.strip_prefix("*.") {
        _ if pattern.is_empty() => true,
        None => pattern == host,
        Some(suffix) => host
            .strip_suffix(suffix)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|labels| !one_label || !labels.contains('.')),
    }
}

/// Exact before wildcards, longer before shorter, any last.
fn specificity(pattern: &str) -> (bool, usize) {
    (
        !pattern.is_empty() && !pattern.starts_with('*'),
        pattern.len(),
    )
}

fn path_fits(path: Option<&proto::PathMatch>, asked: &str) -> Option<(u8, usize)> {
    let Some(path) = path else {
        return Some((1, 0));
    };
    let value = path.value.as_str();
    match path.r#type() {
        proto::path_match::Type::Exact => (value == asked).then_some((2, value.len())),
        proto::path_match::Type::Prefix => {
            let wanted: Vec<&str> = value.split('/').filter(|part| !part.is_empty()).collect();
            let there: Vec<&str> = asked.split('/').skip(1).collect();
            there
                .starts_with(&wanted)
                .then(|| (1, value.trim_end_matches('/').len()))
        }
        proto::path_match::Type::Regex => {
            let regex = regex::Regex::new(value).unwrap();
            let whole = regex
                .find_iter(asked)
                .any(|found| found.len() == asked.len())
                || regex::Regex::new(&format!("^({value})$"))
                    .unwrap()
                    .is_match(asked);
            whole.then_some((0, value.len()))
        }
    }
}

fn value_fits(wanted: &proto::ValueMatch, value: Option<String>) -> bool {
    value.is_some_and(|value| {
        if wanted.regex {
            regex::Regex::new(&format!("^({})$", wanted.value))
                .unwrap()
                .is_match(&value)
        } else {
            value == wanted.value
        }
    })
}

fn oracle(given: &[Given], listeners: &[String], asked: &Asked) -> Option<usize> {
    let mut all: Vec<&str> = given.iter().map(|one| one.listener.as_str()).collect();
    all.extend(listeners.iter().map(String::as_str));
    let listener = all
        .into_iter()
        .filter(|one| host_fits(one, &asked.host, false))
        .max_by_key(|one| specificity(one))?;
    let fits = |one: &Given| {
        if one.listener != listener || !host_fits(&one.hostname, &asked.host, one.one_label) {
            return None;
        }
        let (kind, length) = path_fits(one.matched.path.as_ref(), &asked.path)?;
        let method = one.matched.method.is_empty() || one.matched.method == asked.method.as_str();
        let headers = one.matched.headers.iter().all(|wanted| {
            let lines: Vec<&str> = asked
                .headers
                .get_all(&wanted.name)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect();
            value_fits(wanted, (!lines.is_empty()).then(|| lines.join(",")))
        });
        let query: Vec<(String, String)> = asked
            .query
            .iter()
            .flat_map(|query| query.split('&'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| {
                (
                    name.replace("%61", "a"),
                    value.replace('+', " ").replace("%62", "b"),
                )
            })
            .collect();
        let queries = one.matched.query.iter().all(|wanted| {
            value_fits(
                wanted,
                query
                    .iter()
                    .find(|(name, _)| *name == wanted.name)
                    .map(|(_, value)| value.clone()),
            )
        });
        (method && headers && queries).then(|| {
            (
                specificity(&one.hostname),
                (kind, length),
                (
                    !one.matched.method.is_empty(),
                    one.matched.headers.len(),
                    one.matched.query.len(),
                ),
                Reverse((one.created, one.route.clone(), one.rule)),
            )
        })
    };
    given
        .iter()
        .enumerate()
        .filter_map(|(at, one)| fits(one).map(|rank| (rank, Reverse(at))))
        .max()
        .map(|(_, Reverse(at))| at)
}

fn hostname() -> impl Strategy<Value = String> {
    let names = [
        "",
        "a.test",
        "b.a.test",
        "*.test",
        "*.a.test",
        "*.b.a.test",
        "test",
        "c.test",
    ];
    proptest::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn path_value() -> impl Strategy<Value = String> {
    let paths = [
        "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/a/c", "/A",
    ];
    proptest::sample::select(paths.to_vec()).prop_map(str::to_owned)
}

fn path_match() -> impl Strategy<Value = Option<proto::PathMatch>> {
    use proto::path_match::Type;
    let regexes = ["/a|/b", "/a.*", "/.", "/[ab]/b", "(/a)", ".*"];
    let of = |kind: Type, value: String| proto::PathMatch {
        r#type: kind.into(),
        value,
    };
    prop_oneof![
        1 => Just(None),
        4 => path_value().prop_map(move |value| Some(of(Type::Prefix, value))),
        3 => path_value().prop_map(move |value| Some(of(Type::Exact, value))),
        2 => proptest::sample::select(regexes.to_vec()).prop_map(move |value| Some(of(Type::Regex, value.to_owned()))),
    ]
}

fn value_matches() -> impl Strategy<Value = Vec<proto::ValueMatch>> {
    let one = (
        proptest::sample::select(&["a", "x-b"][..]),
        proptest::sample::select(&["1", "b", "1,2", ""][..]),
        any::<bool>(),
    )
        .prop_map(|(name, value, regex)| proto::ValueMatch {
            name: name.into(),
            value: value.into(),
            regex,
        });
    proptest::collection::vec(one, 0..3)
}

prop_compose! {
    fn given()(
        listener in hostname(), hostname in hostname(), one_label: bool, path in path_match(), headers in value_matches(),
        query in value_matches(), method in proptest::sample::select(&["", "", "GET", "POST"][..]),
        created in 0i64..2, route in 0u8..3, rule in 0usize..3,
    ) -> Given {
        let matched = proto::Match { path, headers, query, method: method.to_owned() };
        // Precedence has to be total, or there is nothing to compare: a rule is what it is once.
        Given { listener, hostname, one_label, matched, created, route: format!("n/{route}"), rule }
    }
}

prop_compose! {
    fn asked()(
        host in proptest::sample::select(&["a.test", "b.a.test", "c.b.a.test", "test", "c.test", "d.c.test", "other"][..]),
        path in proptest::sample::select(&["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/d", "/ab", "/abc", "/b", "/a/c", "/A", "/a/bc"][..]),
        query in proptest::option::of(proptest::sample::select(&["", "a=1", "%61=1&a=2", "a", "x-b=%62", "a=1&x-b=b", "x-b=1,2"][..])),
        method in proptest::sample::select(&[Method::GET, Method::POST, Method::HEAD][..]),
        headers in proptest::collection::vec((proptest::sample::select(&["a", "x-b"][..]), proptest::sample::select(&["1", "b", "2"][..])), 0..3),
    ) -> Asked {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Asked { host: host.into(), path: path.into(), query: query.map(Into::into), method, headers: map }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn finds_what_the_standard_says(
        given in proptest::collection::vec(given(), 0..12),
        listeners in proptest::collection::vec(hostname(), 0..2),
        asked in proptest::collection::vec(asked(), 1..20),
    ) {
        let router = build(&given, &listeners);
        for asked in asked {
            let (found, expected) = (find(&router, &asked), oracle(&given, &listeners, &asked));
            // Two that nothing tells apart may stand in either order.
            let same = |a: usize, b: usize| {
                let key = |at: usize| (given[at].created, given[at].route.clone(), given[at].rule);
                key(a) == key(b)
            };
            let equal = match (found, expected) {
                (Some(found), Some(expected)) => found == expected || same(found, expected),
                (found, expected) => found == expected,
            };
            prop_assert!(equal, "{:?}: found {:?}, expected {:?}", asked, found, expected);
            // What is explained is what happens.
            prop_assert_eq!(explained(&router, &asked), found);
        }
    }

    #[test]
    fn order_of_arrival_does_not_matter(mut given in proptest::collection::vec(given(), 0..10), asked in asked(), turn in 0usize..10) {
        given.iter_mut().enumerate().for_each(|(at, one)| one.rule = at);
        let name = |given: &[Given]| find(&build(given, &[]), &asked).map(|at| given[at].rule);
        let first = name(&given);
        let places = turn.min(given.len());
        given.rotate_left(places);
        prop_assert_eq!(name(&given), first);
        given.reverse();
        prop_assert_eq!(name(&given), first);
    }
}

fn prefix(value: &str) -> proto::Match {
    let path = proto::PathMatch {
        r#type: proto::path_match::Type::Prefix.into(),
        value: value.into(),
    };
    proto::Match {
        path: Some(path),
        ..proto::Match::default()
    }
}

#[test]
fn prefixes_say_how_much_they_took() {
    let given: Vec<Given> = ["/", "/foo/", "/foo/bar"]
        .iter()
        .map(|value| Given {
            listener: String::new(),
            hostname: String::new(),
            one_label: false,
            matched: prefix(value),
            created: 0,
            route: "n/r".into(),
            rule: 0,
        })
        .collect();
    let router = build(&given, &[]);
    let headers = HeaderMap::new();
    for (path, rule, length) in [
        ("/", "0", 0),
        ("/foobar", "0", 0),
        ("/foo", "1", 4),
        ("/foo/", "1", 4),
        ("/foo/x/y", "1", 4),
        ("/foo/bar", "2", 8),
        ("/foo/bar/x", "2", 8),
        ("/foo/barx", "1", 4),
    ] {
        let request = Request {
            host: "h",
            path,
            query: None,
            method: &Method::GET,
            headers: &headers,
        };
        let found = router.find(&request).unwrap();
        assert_eq!(
            (&*found.rule.name, found.prefix_len),
            (rule, length),
            "{path}"
        );
    }
}

#[test]
fn what_can_never_match_or_takes_too_long_is_refused() {
    let mut regexes = Regexes::default();
    let mut regex = |value: &str| {
        let path = proto::PathMatch {
            r#type: proto::path_match::Type::Regex.into(),
            value: value.into(),
        };
        Match::new(
            &proto::Match {
                path: Some(path),
                ..proto::Match::default()
            },
            &mut regexes,
        )
    };
    assert!(
        regex("/a(")
            .unwrap_err()
            .contains("not a regular expression")
    );
    // Would be one between the brackets that anchor it.
    assert!(regex("/a)|(/b").is_err());
    assert!(regex("((a{1000}){1000}){1000}").is_err());
    assert!(
        Match::new(&prefix("/a%2fb"), &mut Regexes::default())
            .unwrap_err()
            .contains("/a%2fb")
    );
    assert!(Match::new(&prefix("a"), &mut Regexes::default()).is_err());
}

#[test]
fn paths_are_compared_in_their_canonical_form() {
    let mut given = vec![Given {
        listener: String::new(),
        hostname: String::new(),
        one_label: false,
        matched: prefix("/%61//b%2d"),
        created: 0,
        route: "n/r".into(),
        rule: 0,
    }];
    given[0].matched.path.as_mut().unwrap().r#type = proto::path_match::Type::Exact.into();
    let asked = Asked {
        host: "h".into(),
        path: "/a/b-".into(),
        query: None,
        method: Method::GET,
        headers: HeaderMap::new(),
    };
    assert_eq!(find(&build(&given, &[]), &asked), Some(0));
}

/// A path of nothing but slashes, and hosts of nothing but dots, cost no more than they are long.
#[test]
fn hostile_hosts_and_paths_are_walked_once() {
    let given: Vec<Given> = (0..2000)
        .map(|at| Given {
            listener: String::new(),
            hostname: if at % 2 == 0 {
                format!("*.{at}.test")
            } else {
                String::new()
            },
            one_label: false,
            matched: prefix(&format!("/{at}")),
            created: 0,
            route: "n/r".into(),
            rule: at,
        })
        .collect();
    let router = build(&given, &[]);
    let asked = Asked {
        host: ".".repeat(250),
        path: "/".repeat(8000),
        query: None,
        method: Method::GET,
        headers: HeaderMap::new(),
    };
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(find(&router, &asked), None);
    }
    assert!(
        started.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

//! Query parameters, and lists cut into pages.
//!
//! An offset names the last object of the page before by its place in the order of namespaces and names, so that what
//! is added or removed meanwhile neither repeats nor hides anything else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::refused::Refused;
use super::tree::set;

/// Entities in a page where nobody says how many.
const USUAL: usize = 100;
/// And at most.
const MOST: usize = 1000;

/// Query parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the parameters; only those that are known may be there, each once.
    pub(crate) fn read(text: &str, known: &[&str]) -> Result<Self, Refused> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let refuse = |message: &str| Refused::Option {
                field: name.clone().into_owned(),
                message: message.to_owned(),
            };
            if !known.contains(&&*name) {
                return Err(refuse("unknown parameter"));
            }
            if found.iter().any(|(other, _)| *other == *name) {
                return Err(refuse("given more than once"));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    /// The value of a parameter; an empty one counts as absent.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(own, _)| own == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Which tags an entity must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tags {
    All(Vec<String>),
    Any(Vec<String>),
}

impl Tags {
    fn read(text: &str) -> Result<Self, Refused> {
        let split = |by: char| text.split(by).map(str::to_owned).collect::<Vec<_>>();
        let (tags, any) = if text.contains('/') {
            (split('/'), true)
        } else {
            (split(','), false)
        };
        let mixed = any && text.contains(',');
        if mixed || tags.iter().any(String::is_empty) {
            return Err(Refused::Option {
                field: "tags".to_owned(),
                message: "write a,b for entities with both tags, a/b for those with either"
                    .to_owned(),
            });
        }
        Ok(if any {
            Self::Any(tags)
        } else {
            Self::All(tags)
        })
    }

    fn fit(&self, own: &[String]) -> bool {
        match self {
            Self::All(tags) => tags.iter().all(|tag| own.contains(tag)),
            Self::Any(tags) => tags.iter().any(|tag| own.contains(tag)),
        }
    }
}

/// A place in a list.
pub(crate) type Place = Vec<String>;

/// Which part of a list is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Paging {
    size: usize,
    after: Option<Place>,
    tags: Option<Tags>,
    /// Where the next page is asked for.
    path: String,
    /// Parameters that it needs again.
    kept: Vec<(String, String)>,
}

impl Paging {
    /// Reads `size`, `offset` and `tags`.
    pub(crate) fn read(path: &str, query: &Query) -> Result<Self, Refused> {
        let size = match query.value("size") {
            None => USUAL,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (1..=MOST).contains(size))
                .ok_or_else(|| {
                    Refused::Size(format!("size must be an integer between 1 and {MOST}"))
                })?,
        };
        let after = query
            .value("offset")
            .map(|text| place(text).ok_or_else(|| Refused::Offset(text.to_owned())))
            .transpose()?;
        let kept = query.0.iter().filter(|(name, _)| name != "offset");
        Ok(Self {
            size,
            after,
            tags: query.value("tags").map(Tags::read).transpose()?,
            path: path.to_owned(),
            kept: kept.cloned().collect(),
        })
    }

    /// How many entities are asked for.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// The place behind which this page begins.
    pub(crate) const fn after(&self) -> Option<&Place> {
        self.after.as_ref()
    }

    /// Whether an entity with these tags is asked for.
    pub(crate) fn fits(&self, tags: &[String]) -> bool {
        self.tags.as_ref().is_none_or(|wanted| wanted.fit(tags))
    }

    /// Takes a page out of what comes behind its beginning; `show` is called only for what is in it.
    pub(crate) fn page<T>(
        &self,
        items: impl Iterator<Item = T>,
        place: impl Fn(&T) -> Place,
        show: impl Fn(&T) -> Value,
    ) -> Value {
        let mut data = Vec::new();
        let mut last = None;
        let mut more = false;
        for item in items {
            if data.len() == self.size {
                more = true;
                break;
            }
            data.push(show(&item));
            last = Some(item);
        }
        let next = last.filter(|_| more).map(|last| place(&last));
        self.answer(data, next)
    }

    /// A page, and where the next one begins.
    pub(crate) fn answer(&self, data: Vec<Value>, next: Option<Place>) -> Value {
        let mut answer = json!({"data": data, "next": null});
        if let Some(place) = next {
            let offset = URL_SAFE_NO_PAD.encode(json!(place).to_string());
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("offset", &offset);
            query.extend_pairs(&self.kept);
            let next = format!("{}?{}", self.path, query.finish());
            set(&mut answer, &["next"], next);
            set(&mut answer, &["offset"], offset);
        }
        answer
    }
}

fn place(text: &str) -> Option<Place> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(query: &str) -> Result<Paging, Refused> {
        let query = Query::read(query, &["size", "offset", "tags"])?;
        Paging::read("/things", &query)
    }

    #[test]
    fn pages_follow_each_other() {
        let all: Vec<u32> = (0..5).collect();
        let from = |paging: &Paging| {
            let after = paging.after().map(|place| place[0].parse::<u32>().unwrap());
            all.iter()
                .filter(move |n| after.is_none_or(|after| **n > after))
                .copied()
                .collect::<Vec<_>>()
        };
        let mut paging = paging("size=2").unwrap();
        let mut seen = Vec::new();
        loop {
            let page = paging.page(
                from(&paging).into_iter(),
                |n| vec![n.to_string()],
                |n| json!(n),
            );
            seen.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            let (path, query) = next.split_once('?').unwrap();
            assert_eq!(path, "/things");
            paging = super::tests::paging(query).unwrap();
        }
        assert_eq!(json!(seen), json!([0, 1, 2, 3, 4]));
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        for query in ["size=0", "size=1001", "size=x"] {
            assert!(matches!(paging(query), Err(Refused::Size(_))), "{query}");
        }
        for query in ["offset=%21", "offset=e30"] {
            assert!(matches!(paging(query), Err(Refused::Offset(_))), "{query}");
        }
        for query in ["tags=a,b/c", "tags=,", "sizes=1", "size=1&size=2"] {
            assert!(
                matches!(paging(query), Err(Refused::Option { .. })),
                "{query}"
            );
        }
    }

    #[test]
    fn tags_are_all_or_any() {
        let own = ["a".to_owned(), "b".to_owned()];
        for (tags, fits) in [("a,b", true), ("a,c", false), ("c/a", true), ("c", false)] {
            assert_eq!(Tags::read(tags).unwrap().fit(&own), fits, "{tags}");
        }
    }
}

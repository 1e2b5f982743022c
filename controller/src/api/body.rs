//! Bodies: JSON, forms and multipart, all into one tree.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::refused::Refused;
use super::schema;

/// The longest body.
pub(crate) const LONGEST: usize = 1 << 20;
/// The most fields of a form.
const MOST_FIELDS: usize = 1000;
/// How deep names of form fields may go: "config.a.b".
const DEEPEST: usize = 8;

/// Reads a body; an empty one has no fields.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    schema: &Value,
) -> Result<Map<String, Value>, Refused> {
    let bytes = axum::body::to_bytes(body, LONGEST)
        .await
        .map_err(|_| Refused::Long(LONGEST))?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let fields = match essence.to_ascii_lowercase().as_str() {
        "application/json" => {
            let value = serde_json::from_slice(&bytes)
                .map_err(|_| Refused::Body("Cannot parse JSON body".to_owned()))?;
            return match value {
                Value::Object(fields) => Ok(fields),
                _ => Err(Refused::Body("the JSON body must be an object".to_owned())),
            };
        }
        "application/x-www-form-urlencoded" => form_urlencoded::parse(&bytes)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
        "multipart/form-data" => multipart(kind, bytes).await?,
        _ => {
            return Err(Refused::Media(
                "the body must be application/json, application/x-www-form-urlencoded or multipart/form-data"
                    .to_owned(),
            ));
        }
    };
    tree(fields, schema)
}

async fn multipart(kind: &str, bytes: bytes::Bytes) -> Result<Vec<(String, String)>, Refused> {
    let wrong = |_| Refused::Body("Cannot parse multipart body".to_owned());
    let boundary = multer::parse_boundary(kind).map_err(wrong)?;
    let stream = futures::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(wrong)? {
        let name = part.name().unwrap_or_default().to_owned();
        let value = part.bytes().await.map_err(wrong)?;
        let value = String::from_utf8(value.to_vec())
            .map_err(|_| Refused::Body(format!("field {name:?} is not UTF-8")))?;
        fields.push((name, value));
    }
    Ok(fields)
}

/// Names with dots are fields of records; "name[]", "name[1]" and repeated names are lists.
fn tree(fields: Vec<(String, String)>, schema: &Value) -> Result<Map<String, Value>, Refused> {
    if fields.len() > MOST_FIELDS {
        return Err(Refused::Body(format!(
            "the body has more than {MOST_FIELDS} fields"
        )));
    }
    let mut root = Map::new();
    for (name, value) in fields {
        let path: Vec<&str> = name.split('.').collect();
        if path.len() > DEEPEST || path.iter().any(|part| part.is_empty()) {
            return Err(Refused::Body(format!("{name:?} is no name of a field")));
        }
        put(&mut root, &path, value);
    }
    match schema::infer(Value::Object(root), schema) {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn put(fields: &mut Map<String, Value>, path: &[&str], value: String) {
    let Some((head, rest)) = path.split_first() else {
        return;
    };
    if !rest.is_empty() {
        let inner = fields
            .entry((*head).to_owned())
            .or_insert_with(|| json!({}));
        // A text where a record should be: the schema says so of the record.
        if !inner.is_object() {
            *inner = json!({});
        }
        if let Value::Object(inner) = inner {
            put(inner, rest, value);
        }
        return;
    }
    let (name, listed) = match head.find('[') {
        Some(at) if head.ends_with(']') => (head.get(..at).unwrap_or(head), true),
        _ => (*head, false),
    };
    let new = json!(value);
    match fields.get_mut(name) {
        None if listed => {
            fields.insert(name.to_owned(), json!([new]));
        }
        None => {
            fields.insert(name.to_owned(), new);
        }
        Some(Value::Array(items)) => items.push(new),
        Some(first) => *first = json!([first.take(), new]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "properties": {
            "key": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "config": {"type": "object", "properties": {
                "key_names": {"type": "array", "items": {"type": "string"}},
                "key_in_query": {"type": "boolean"},
            }},
        }})
    }

    async fn of(kind: &str, body: &str) -> Result<Value, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let fields = read(&headers, Body::from(body.to_owned()), &schema()).await?;
        Ok(Value::Object(fields))
    }

    #[tokio::test]
    async fn all_forms_say_the_same() {
        let expected = json!({"key": "a b", "tags": ["x", "y"],
            "config": {"key_names": ["apikey"], "key_in_query": false}});
        let form = "application/x-www-form-urlencoded";
        let said = "key=a+b&tags[]=x&tags[]=y&config.key_names=apikey&config.key_in_query=false";
        assert_eq!(of(form, said).await, Ok(expected.clone()));
        let said = "key=a%20b&tags=x,y&config.key_names[1]=apikey&config.key_in_query=false";
        assert_eq!(of(form, said).await, Ok(expected.clone()));
        let json = "application/json; charset=utf-8";
        assert_eq!(of(json, &expected.to_string()).await, Ok(expected));
        let part = |name: &str, value: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"k\"\r\n\r\n{value}\r\n"
            )
        };
        let body = format!("{}{}--b--\r\n", part("key", "x\ny"), part("tags", "a"));
        assert_eq!(
            of("multipart/form-data; boundary=b", &body).await,
            Ok(json!({"key": "x\ny", "tags": ["a"]}))
        );
    }

    #[tokio::test]
    async fn what_is_no_body_is_refused() {
        for (kind, body) in [
            ("application/json", "{"),
            ("application/json", "[]"),
            ("multipart/form-data", "x"),
            ("multipart/form-data; boundary=b", "--b\r\nx"),
            ("application/x-www-form-urlencoded", "a..b=1"),
        ] {
            let refused = of(kind, body).await;
            assert!(
                matches!(refused, Err(Refused::Body(_))),
                "{kind} {body}: {refused:?}"
            );
        }
        assert!(matches!(
            of("text/plain", "x").await,
            Err(Refused::Media(_))
        ));
    }
}

//! The OpenAPI document, made from the table that the router is made from.

use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;
use super::entity::blocks;
use super::tree::set;

/// The document for these endpoints.
pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let item = paths
            .entry(endpoint.path.clone())
            .or_insert_with(|| json!({}));
        item[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint);
    }
    let plugins: Map<String, Value> = blocks()
        .iter()
        .map(|(name, block)| (format!("plugin-{name}"), block.shown.clone()))
        .collect();
    let mut schemas = plugins;
    schemas.insert("error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Postern Admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The objects of the gateway in the shapes of Kong's Admin API. Instants are milliseconds since 1970.",
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A Kubernetes token; needed in a cluster."}},
        },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["message"],
        "properties": {
            "message": {"type": "string"},
            "code": {"type": "integer"},
            "name": {"type": "string"},
            "fields": {"type": "object"},
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let in_path = endpoint
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
        .collect();
    parameters.extend(endpoint.parameters.iter().map(|name| {
        let (schema, description) = parameter(name);
        json!({"name": name, "in": "query", "schema": schema, "description": description})
    }));
    let (status, schema) = &endpoint.answer;
    let mut answer = json!({"description": match status {
        201 => "Created",
        204 => "Deleted, or not there",
        _ => "OK",
    }});
    if let Some(schema) = schema {
        let path = ["content", "application/json", "schema"];
        set(&mut answer, &path, (**schema).clone());
    }
    let mut answers = Map::new();
    answers.insert(status.to_string(), answer);
    let refused = json!({
        "description": "Refused; the message says why",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}},
    });
    answers.insert("4XX".to_owned(), refused.clone());
    answers.insert("503".to_owned(), refused);
    let mut operation = json!({
        "summary": endpoint.summary,
        "tags": [endpoint.group],
        "operationId": id(endpoint),
        "parameters": parameters,
        "responses": answers,
    });
    if let Some(schema) = &endpoint.body {
        let media = json!({"schema": **schema});
        let body = json!({"content": {
            "application/json": media,
            "application/x-www-form-urlencoded": media,
            "multipart/form-data": media,
        }});
        set(&mut operation, &["requestBody"], body);
    }
    operation
}

fn id(endpoint: &Endpoint) -> String {
    let path: String = endpoint
        .path
        .chars()
        .filter(|character| !matches!(character, '{' | '}'))
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '_'
            }
        })
        .collect();
    format!("{}{path}", endpoint.method.as_str().to_ascii_lowercase())
}

fn parameter(name: &str) -> (Value, &'static str) {
    let text = json!({"type": "string"});
    match name {
        "size" => (
            json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
            "How many in a page",
        ),
        "offset" => (text, "From the answer before"),
        "tags" => (text, "a,b: those with both tags; a/b: those with either"),
        "namespace" => (
            json!({"type": "string", "maxLength": 63}),
            "The Kubernetes namespace; default: all for what is read, the API's own for what is created",
        ),
        _ => (text, "Only those with this value"),
    }
}

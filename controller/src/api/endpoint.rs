//! One table of what can be called: the router and the OpenAPI document are made from it, so that they agree.

use std::sync::Arc;

use axum::extract::{RawPathParams, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::access::Caller;
use super::answer::Answer;
use super::page::{Paging, Query};
use super::refused::{Refused, Violations};
use super::{Api, body, schema};

/// The future of an answer.
pub(crate) type Answering = BoxFuture<'static, Result<Answer, Refused>>;
type Handler = Arc<dyn Fn(Call) -> Answering + Send + Sync>;

/// A call whose form is right.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) caller: Caller,
    /// Parts of the path, in their order.
    pub(crate) path: Vec<String>,
    /// The path as it was called.
    pub(crate) called: String,
    pub(crate) query: Query,
    pub(crate) fields: Map<String, Value>,
}

impl Call {
    /// A part of the path.
    pub(crate) fn part(&self, index: usize) -> &str {
        self.path.get(index).map(String::as_str).unwrap_or_default()
    }

    /// The namespace that is asked for; None: all.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.query.value("namespace")
    }

    /// Which part of a list is asked for.
    pub(crate) fn paging(&self) -> Result<Paging, Refused> {
        Paging::read(&self.called, &self.query)
    }
}

/// Something that can be called.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    /// As in OpenAPI: "/consumers/{consumer}".
    pub(crate) path: String,
    pub(crate) summary: String,
    /// The entity.
    pub(crate) group: &'static str,
    /// Query parameters.
    pub(crate) parameters: Vec<&'static str>,
    /// Schema of the body.
    pub(crate) body: Option<Arc<Value>>,
    /// Status and schema of the answer.
    pub(crate) answer: (u16, Option<Arc<Value>>),
    handler: Handler,
}

impl Endpoint {
    /// An endpoint that takes no body.
    pub(crate) fn new<F>(
        method: Method,
        path: impl Into<String>,
        group: &'static str,
        summary: impl Into<String>,
        handler: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Answer, Refused>> + Send + 'static,
    {
        let status = match method {
            Method::POST => 201,
            Method::DELETE => 204,
            _ => 200,
        };
        Self {
            method,
            path: path.into(),
            summary: summary.into(),
            group,
            parameters: vec!["namespace"],
            body: None,
            answer: (status, None),
            handler: Arc::new(move |call| Box::pin(handler(call))),
        }
    }

    /// Takes a body of this schema.
    pub(crate) fn takes(mut self, schema: &Arc<Value>) -> Self {
        self.body = Some(Arc::clone(schema));
        self
    }

    /// Answers with this schema.
    pub(crate) fn gives(mut self, schema: &Arc<Value>) -> Self {
        self.answer.1 = Some(Arc::clone(schema));
        self
    }

    /// Is a list, filtered by these parameters.
    pub(crate) fn lists(mut self, filters: &[&'static str]) -> Self {
        self.parameters.extend(["size", "offset"]);
        self.parameters.extend(filters);
        self
    }

    /// Can also be filtered by this parameter.
    pub(crate) fn lists_by(mut self, filter: &'static str) -> Self {
        self.parameters.push(filter);
        self
    }

    /// Takes no query parameter.
    pub(crate) fn bare(mut self) -> Self {
        self.parameters.clear();
        self
    }

    /// How axum is told.
    pub(crate) fn route(self) -> (String, MethodRouter<Arc<Api>>) {
        let filter = MethodFilter::try_from(self.method.clone()).unwrap_or(MethodFilter::GET);
        let path = self.path.clone();
        let endpoint = Arc::new(self);
        let answer = move |State(api): State<Arc<Api>>, path: RawPathParams, request: Request| {
            let endpoint = Arc::clone(&endpoint);
            async move {
                match endpoint.answer(api, path, request).await {
                    Ok(answer) => answer.into_response(),
                    Err(refused) => refused.into_response(),
                }
            }
        };
        (path, on(filter, answer))
    }

    async fn answer(
        &self,
        api: Arc<Api>,
        path: RawPathParams,
        request: Request,
    ) -> Result<Answer, Refused> {
        let caller = api.access.caller(request.headers()).await?;
        let (parts, body) = request.into_parts();
        let query = Query::read(parts.uri.query().unwrap_or_default(), &self.parameters)?;
        if let Some(namespace) = query.value("namespace")
            && !crate::files::is_label(namespace)
        {
            return Err(Refused::Option {
                field: "namespace".to_owned(),
                message: "is no name of a namespace".to_owned(),
            });
        }
        let fields = match &self.body {
            Some(schema) => {
                let fields = Value::Object(body::read(&parts.headers, body, schema).await?);
                let mut found = Violations::default();
                schema::check(&fields, schema, "", &mut found);
                found.none()?;
                match fields {
                    Value::Object(fields) => fields,
                    _ => Map::new(),
                }
            }
            None => Map::new(),
        };
        let call = Call {
            caller,
            path: path.iter().map(|(_, value)| value.to_owned()).collect(),
            called: parts.uri.path().to_owned(),
            query,
            fields,
            api,
        };
        if self.method != Method::GET {
            tracing::info!(
                caller = call.caller.name(), method = %self.method, endpoint = self.path,
                "a call of the Admin API"
            );
        }
        (self.handler)(call).await
    }
}

/// 404 for what is not there.
pub(crate) async fn not_found() -> Response {
    Refused::NotFound.into_response()
}

/// 405 for what cannot be done to it.
pub(crate) async fn not_allowed() -> Response {
    Refused::Method.into_response()
}

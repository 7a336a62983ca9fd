//! The API's description, and the router made from it.
//!
//! What always holds: a route exists where, and only where, the document has an operation; path
//! and method stand once, at the handler. An operation's id is its handler's name. The proxy is
//! described here and served elsewhere.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use tower::util::MapResponseLayer;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::{Response as Described, ResponseBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Required};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema};

use crate::face::{Route, Shared};
use crate::problem::{FieldProblem, Problem, SdkError};
use crate::routes::{
    audit::*, connect::*, integrations::*, keys::*, members::*, oauth::*, providers::*,
    resources::*, revocations::*, rotation::*, system::*, tenants::*,
};
use crate::routes::{no_method, no_route, outside};

macro_rules! operations {
    ($($handler:ident)*) => {
        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "Keystead",
                description = "A credential broker: connect, seal, use, renew and prove. Your users' keys, used in your stead.",
                license(name = "Apache-2.0", identifier = "Apache-2.0"),
            ),
            paths($($handler),*),
            components(schemas(Problem<'static>, FieldProblem<'static>, SdkError<'static>)),
            security(("bearer" = [])),
            modifiers(&Additions),
            tags(
                (name = "providers", description = "The catalogue of upstream services"),
                (name = "integrations", description = "A tenant's named connections to providers"),
                (name = "oauth", description = "Connecting accounts by their owners' consent"),
                (name = "revocations", description = "Grants taken back at their providers"),
                (name = "members", description = "Users' places in a tenant"),
                (name = "tenants", description = "The units of isolation"),
                (name = "keys", description = "Service keys and operator keys"),
                (name = "audit", description = "Who did what, provably"),
                (name = "proxy", description = "Calls to providers, with the credential placed"),
                (name = "system", description = "For machines that watch"),
                (name = "pages", description = "For browsers; proven by a cookie or a link, never by a token"),
            ),
        )]
        struct Api;

        fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
            vec![$((stringify!($handler), on(filter_of(stringify!($handler)), $handler)),)*]
        }
    };
}

operations! {
    list_providers find_provider
    list_integrations create_integration find_integration update_integration delete_integration
    test_integration reveal_integration
    list_resources fetch_resource_credentials
    rotate_integration find_rotation put_rotation delete_rotation
    create_connect_session
    begin_authorization complete_authorization receive_authorization receive_own_authorization
    begin_device_authorization poll_device_authorization
    create_revocation list_revocations find_revocation find_receipt
    list_members put_member delete_member
    list_tenants create_tenant delete_tenant
    list_keys create_key revoke_key
    list_entries find_checkpoint find_proof export_entries find_verifier_key
    find_health find_readiness list_metrics find_openapi
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(Api::openapi);
static TEXT: LazyLock<String> = LazyLock::new(openapi);
/// Operation id → method and path.
static PLACES: LazyLock<BTreeMap<String, (MethodFilter, String)>> = LazyLock::new(|| {
    let mut places = BTreeMap::new();
    for (path, item) in &DOCUMENT.paths.paths {
        for (filter, operation) in [
            (MethodFilter::GET, &item.get),
            (MethodFilter::POST, &item.post),
            (MethodFilter::PUT, &item.put),
            (MethodFilter::DELETE, &item.delete),
        ] {
            if let Some(id) = operation
                .as_ref()
                .and_then(|operation| operation.operation_id.clone())
            {
                places.insert(id, (filter, path.clone()));
            }
        }
    }
    places
});

fn filter_of(id: &str) -> MethodFilter {
    PLACES[id].0
}

/// The routes of the document.
pub(crate) fn router() -> Router<Shared> {
    let mut router = Router::new();
    for (id, method) in routes() {
        let path: &'static str = &PLACES[id].1;
        let named = MapResponseLayer::new(move |mut answer: Response| {
            answer.extensions_mut().insert(Route(path));
            answer
        });
        router = router.route(path, method.layer(named));
    }
    let api = Router::new().fallback(no_route);
    router
        .nest("/api", api)
        .method_not_allowed_fallback(no_method)
        .fallback(outside)
}

/// The OpenAPI 3.1 document of this API, as JSON; always the same text for the same code.
pub fn openapi() -> String {
    // The document is maps and text; it does not fail to serialise.
    let mut text = DOCUMENT.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The same, written once.
pub(crate) fn text() -> &'static str {
    &TEXT
}

/// What the macros cannot say.
struct Additions;

impl Modify for Additions {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A JWT of a configured issuer, a service key (`kss_…`) or an operator key (`kso_…`)."))
            .build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        }
        let mut item = PathItem::default();
        for (word, place) in [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ] {
            *place = Some(forward(word));
        }
        document
            .paths
            .paths
            .insert(crate::proxy::ROUTE.to_owned(), item);
    }
}

/// The proxy, for one method.
fn forward(word: &str) -> Operation {
    let text = |name: &str, about: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(about))
            .schema(Some(String::schema()))
            .build()
    };
    let mut operation = OperationBuilder::new()
        .tag("proxy")
        .operation_id(Some(format!("forward_{word}")))
        .summary(Some("Calls the provider with the integration's credential."))
        .description(Some("Forwards method, path, query and body as they are. The caller's token goes wherever the provider's own SDK would put a key. Errors that are Keystead's own carry the header `Keystead-Error`."))
        .parameter(text("id", "An integration's id, or `@` and a provider's id where the tenant has one such integration"))
        .parameter(text("path", "The path on the provider's host, of any number of segments; `~{host}/` before it names another host of that provider"))
        .response("default", ResponseBuilder::new().description("The provider's answer").build())
        .build();
    operation.responses.responses.extend(problems(PROXY));
    operation
}

const READING: &[u16] = &[400, 401, 403, 404, 422, 429, 500, 503];
const CHANGING: &[u16] = &[400, 401, 403, 404, 409, 412, 422, 429, 500, 503];
const WRITING: &[u16] = &[
    400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 429, 500, 503,
];
const ASKING: &[u16] = &[400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504];
const CONNECTING: &[u16] = &[400, 401, 403, 404, 409, 422, 429, 500, 503];
const EXCHANGING: &[u16] = &[
    400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504,
];
const PROXY: &[u16] = &[400, 401, 403, 404, 409, 413, 429, 500, 502, 503, 504];

fn problems(statuses: &'static [u16]) -> impl Iterator<Item = (String, RefOr<Described>)> {
    statuses.iter().map(|status| {
        let about = match status {
            400 => "The request cannot be read",
            401 => "No token, or none that is valid",
            403 => "Not allowed to this caller",
            404 => "There is no such thing, or not for this caller",
            408 => "The body did not arrive in time",
            409 => "It clashes with what is there",
            412 => "It was changed since it was read",
            413 => "Too many bytes",
            415 => "The body is not declared as JSON",
            422 => "Some fields are wrong",
            429 => "Too many requests: see Retry-After",
            502 => "The provider could not be reached",
            503 => "Something Keystead needs is away: see Retry-After",
            504 => "The provider did not answer in time",
            _ => "A fault of Keystead",
        };
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .build();
        let response = ResponseBuilder::new()
            .description(about)
            .content("application/problem+json", content)
            .build();
        (status.to_string(), RefOr::T(response))
    })
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $statuses:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Described>> {
                problems($statuses).collect()
            }
        }
    )*};
}

refusals! {
    /// How an operation that reads may be refused.
    Reading = READING;
    /// How an operation that changes something, and takes no body, may be refused.
    Changing = CHANGING;
    /// How an operation with a body may be refused.
    Writing = WRITING;
    /// How an operation that begins to connect an account may be refused.
    Connecting = CONNECTING;
    /// How an operation that asks a provider, with a body, may be refused.
    Exchanging = EXCHANGING;
    /// How an operation that asks a provider may be refused.
    Asking = ASKING;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_an_operation_and_every_operation_a_route() {
        let proxied = |id: &String| id.starts_with("forward_");
        let mut described: Vec<_> = PLACES
            .keys()
            .filter(|id| !proxied(id))
            .map(String::as_str)
            .collect();
        let mut routed: Vec<_> = routes().into_iter().map(|(id, _)| id).collect();
        described.sort_unstable();
        routed.sort_unstable();
        assert_eq!(described, routed);
        let ids = DOCUMENT.paths.paths.values().flat_map(|item| {
            [&item.get, &item.post, &item.put, &item.patch, &item.delete]
                .into_iter()
                .flatten()
        });
        assert_eq!(
            ids.clone().count(),
            routed.len() + 5,
            "an operation's id is there twice"
        );
        for operation in ids {
            let id = operation.operation_id.as_deref().unwrap_or_default();
            assert!(
                operation
                    .summary
                    .as_ref()
                    .is_some_and(|text| !text.is_empty()),
                "{id} has no summary"
            );
            let public = operation.security.is_some();
            let tags = operation.tags.as_deref().unwrap_or_default();
            let open = tags.iter().all(|tag| tag == "system" || tag == "pages");
            assert_eq!(public, open, "{id}");
            for status in ["401", "403", "404", "429", "503"] {
                assert!(
                    public || operation.responses.responses.contains_key(status),
                    "{id} does not list {status}"
                );
            }
        }
    }

    #[test]
    fn the_document_is_valid_in_what_programs_rely_on() {
        let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["license"]["identifier"], "Apache-2.0");
        assert_eq!(
            document["components"]["securitySchemes"]["bearer"]["scheme"],
            "bearer"
        );
        assert_eq!(openapi(), openapi());
        // Every reference has its target.
        let text = openapi();
        for reference in text.split("\"$ref\": \"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name} is not described"
            );
        }
    }
}

#!/usr/bin/env python3
"""envoy.py JWKS: prints an Envoy bootstrap that verifies tokens with a key set and remembers those it has verified."""
import json
import sys

TYPES = "type.googleapis.com/envoy.extensions.filters."


def at(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


provider = {
    "issuer": "https://issuer.test", "audiences": ["bench"], "forward": True, "local_jwks": {"filename": sys.argv[1]},
    "jwt_cache_config": {"jwt_cache_size": 4096}, "claim_to_headers": [{"header_name": "x-consumer", "claim_name": "sub"}],
}
jwt = {"@type": TYPES + "http.jwt_authn.v3.JwtAuthentication", "providers": {"issuer": provider},
       "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}]}
everything = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
manager = {
    "@type": TYPES + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
    "generate_request_id": False, "route_config": {"virtual_hosts": [everything]},
    "http_filters": [
        {"name": "envoy.filters.http.jwt_authn", "typed_config": jwt},
        {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPES + "http.router.v3.Router"}},
    ],
}
chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
many = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
up = {
    "name": "up", "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [many]},
    "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(21000)}}]}]},
}
listener = {"name": "in", "address": at(22000), "filter_chains": [chain]}
print(json.dumps({"static_resources": {"listeners": [listener], "clusters": [up]}}))

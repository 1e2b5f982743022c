"""What the manifests of all benchmarks have in common: a route to the upstream, for everything."""
import base64
import json

GATEWAY = "gateway.networking.k8s.io/v1"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def obj(api, kind, name, spec=None, **more):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **({"spec": spec} if spec else {}), **more}


def write(folder, objects, name="objects.yaml"):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as f:
        for o in objects:
            f.write("---\n" + json.dumps(o) + "\n")


def base(listener, hostname=None):
    rule = {"backendRefs": [{"name": "up", "port": 80}]}
    return [
        obj(GATEWAY, "GatewayClass", "postern", {"controllerName": "postern.dev/gateway-controller"}),
        obj(GATEWAY, "Gateway", "gateway", {"gatewayClassName": "postern", "listeners": [listener]}),
        obj("v1", "Service", "up", {"ports": [{"name": "http", "port": 80}], "selector": {"app": "up"}}),
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "up-1", "labels": {"kubernetes.io/service-name": "up"}},
         "ports": [{"name": "http", "port": 21000}],
         "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}]},
        obj(GATEWAY, "HTTPRoute", "all", {"parentRefs": [{"name": "gateway"}], "rules": [rule]}),
    ]


http = {"name": "http", "protocol": "HTTP", "port": 22000}

#!/usr/bin/env python3
"""How long after the API server's answer is a change enforced? Prints a line for each kind of change.

    tests/cluster/in.sh python3 bench/propagate.py [--count 30] [--gap 3] [--credentials 10000]

Creates an application behind a Gateway and, COUNT times each, creates, patches and deletes a route, a Credential and an
AuthPlugin, GAP seconds apart (a range like 0.2-1 is drawn from). After each it polls all proxies every 5 ms, a new
connection each time, until every one gives the new answer.
"""
import argparse
import hashlib
import http.client
import json
import math
import os
import random
import re
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--count", type=int, default=30)
parser.add_argument("--gap", default="3")
parser.add_argument("--credentials", type=int, default=0, help="other Credentials to have there")
parser.add_argument("--kinds", default="route,credential,plugin")
parser.add_argument("--timeout", type=float, default=30)
args = parser.parse_args()
low, _, high = args.gap.partition("-")
NS, HOST = "propagate", "propagate.test"


class Api:
    """A small client of the Kubernetes API: one connection, kept."""

    def __init__(self):
        text = open(os.environ["KUBECONFIG"]).read()
        value = lambda key: re.search(key + r':\s*"?([^",}\s]+)', text)[1]
        url = urlsplit(value("server"))
        context = ssl.create_default_context(cafile=value("certificate-authority"))
        self.connection = http.client.HTTPSConnection(url.hostname, url.port, context=context)
        self.headers = {"Authorization": "Bearer " + value("token"), "Accept": "application/json"}

    def __call__(self, method, path, body=None, content_type="application/json"):
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, {**self.headers, "Content-Type": content_type})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text)

    def patch(self, path, body):
        return self("PATCH", path, body, "application/merge-patch+json")

    def apply(self, path, body):
        return self("PATCH", path + "?fieldManager=propagate&force=true", body, "application/apply-patch+yaml")


api = Api()
core, apps = f"/api/v1/namespaces/{NS}", f"/apis/apps/v1/namespaces/{NS}/deployments"
gateways = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NS}"
routes = f"{gateways}/httproutes"
postern = f"/apis/postern.dev/v1alpha1/namespaces/{NS}"


def obj(version, kind, name, spec):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def route_spec(path):
    return {"parentRefs": [{"name": "gateway"}], "hostnames": [HOST], "rules": [
        {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [{"name": "hello", "port": 80}]}]}


def route(name, path):
    return obj("gateway.networking.k8s.io/v1", "HTTPRoute", name, route_spec(path))


def credential_spec(key):
    return {"consumerRef": {"name": "alice"},
            "keyAuth": {"hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest()}}


def credential(name, key):
    return obj("postern.dev/v1alpha1", "Credential", name, credential_spec(key))


def plugin(name, target, config):
    ref = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": target}
    return obj("postern.dev/v1alpha1", "AuthPlugin", name, {"targetRefs": [ref], "keyAuth": config})


def get(address, path, key):
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": HOST, "Connection": "close", **({"apikey": key} if key else {})})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def wait(path, status, key=None):
    """Milliseconds until every proxy answers PATH with STATUS."""
    start = time.monotonic()

    def one(address):
        while get(address, path, key) != status:
            if time.monotonic() - start > args.timeout:
                sys.exit(f"{address} {path}: no {status} within {args.timeout} s, but {get(address, path, key)}")
            time.sleep(0.005)
        return (time.monotonic() - start) * 1000

    return max(pool.map(one, proxies))


def gap():
    time.sleep(random.uniform(float(low), float(high or low)))


def set_up():
    api.apply(f"/api/v1/namespaces/{NS}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
    labels = {"app": "hello"}
    api.apply(f"{apps}/hello", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"}, "spec": {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [
            {"name": "hello", "image": "localhost/hello:1", "imagePullPolicy": "Never",
             "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}]}}}})
    api.apply(f"{core}/services/hello", obj("v1", "Service", "hello", {
        "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}))
    api.apply(f"{gateways}/gateways/gateway", obj("gateway.networking.k8s.io/v1", "Gateway", "gateway", {
        "gatewayClassName": "postern", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}))
    api.apply(f"{postern}/consumers/alice", obj("postern.dev/v1alpha1", "Consumer", "alice", {}))
    for path in (routes, f"{postern}/credentials", f"{postern}/authplugins"):
        api("DELETE", path)
        while api("GET", path + "?limit=1")["items"]:
            time.sleep(0.1)
    mine = [Api() for _ in range(8)]

    def load(worker):
        for i in range(worker, args.credentials, len(mine)):
            mine[worker]("POST", f"{postern}/credentials", credential(f"load-{i}", f"load-key-{i}"))

    list(pool.map(load, range(len(mine))))
    # "/guarded" is for Credentials, "/plugged" for AuthPlugins.
    for name in ("guarded", "plugged"):
        api("POST", routes, route(name, "/" + name))
    api("POST", f"{postern}/authplugins", plugin("guarded", "guarded", {}))


def every_proxy():
    """Addresses of the proxies' pods with the port that the Gateway's Service leads to."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        slices = api("GET", "/apis/discovery.k8s.io/v1/namespaces/postern-system/endpointslices")["items"]
        services = api("GET", "/api/v1/namespaces/postern-system/services?labelSelector=postern.dev/component=gateway")["items"]
        for service in services:
            if "propagate" not in json.dumps(service["metadata"]):
                continue
            found = [(a, s["ports"][0]["port"]) for s in slices for e in s["endpoints"] or [] for a in e["addresses"]
                     if s["metadata"]["labels"].get("kubernetes.io/service-name") == service["metadata"]["name"]
                     and e["conditions"].get("ready") and s["ports"]]
            if found:
                return found
        time.sleep(0.2)
    sys.exit("the Gateway's Service has no proxy within 60 s")


def changes(kind, i):
    """(name of the change, what to do, path, status, key) for one round."""
    credentials, plugins = f"{postern}/credentials", f"{postern}/authplugins"
    if kind == "route":
        yield "create", lambda: api("POST", routes, route("change", f"/a{i}")), f"/a{i}", 200, None
        yield "patch", lambda: api.patch(f"{routes}/change", {"spec": route_spec(f"/b{i}")}), f"/b{i}", 200, None
        yield "delete", lambda: api("DELETE", f"{routes}/change"), f"/b{i}", 404, None
    if kind == "credential":
        a, b = f"key-a{i}", f"key-b{i}"
        yield "create", lambda: api("POST", credentials, credential("change", a)), "/guarded", 200, a
        yield "patch", lambda: api.patch(f"{credentials}/change", {"spec": credential_spec(b)}), "/guarded", 200, b
        yield "delete", lambda: api("DELETE", f"{credentials}/change"), "/guarded", 401, b
    if kind == "plugin":
        guest, nobody = ({"spec": {"keyAuth": {"anonymous": a}}} for a in ({"name": "alice"}, None))
        yield "create", lambda: api("POST", plugins, plugin("change", "plugged", {})), "/plugged", 401, None
        yield "patch", lambda: api.patch(f"{plugins}/change", guest), "/plugged", 200, None
        yield "patch", lambda: api.patch(f"{plugins}/change", nobody), "/plugged", 401, None
        yield "delete", lambda: api("DELETE", f"{plugins}/change"), "/plugged", 200, None


with ThreadPoolExecutor(8) as pool:
    set_up()
    proxies = every_proxy()
    wait("/plugged", 200)
    wait("/guarded", 401)
    time.sleep(5)
    for kind in args.kinds.split(","):
        times = {}
        for i in range(args.count):
            for name, change, path, status, key in changes(kind, i):
                gap()
                change()
                times.setdefault(name, []).append(wait(path, status, key))
        for name, values in times.items():
            values.sort()
            at = lambda q: values[math.ceil(q * len(values)) - 1]
            print(f"{kind:<10} {name:<6} {len(proxies)} proxies, {args.credentials} credentials, gap {args.gap} s: "
                  f"n={len(values)} min={values[0]:.1f} p50={at(.5):.1f} p90={at(.9):.1f} p99={at(.99):.1f} "
                  f"max={values[-1]:.1f} ms", flush=True)

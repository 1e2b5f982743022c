#!/usr/bin/env python3
"""gen.py FOLDER [CONSUMERS]: API keys for the peers and manifests for Postern, the same every time.

Each key has a Consumer of its own, or all are spread over CONSUMERS of them."""
import hashlib
import itertools
import json
import random
import shutil
import sys
from pathlib import Path

OUT = Path(sys.argv[1])
CONSUMERS = int(sys.argv[2]) if sys.argv[2:] else None
POOL = 1000     # how many keys of a list the load uses, spread over it
SIZES = {"1k": 1_000, "1m": 1_000_000}
GATEWAY = "gateway.networking.k8s.io/v1"


def obj(api, kind, name, spec=None, **more):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **({"spec": spec} if spec else {}), **more}


def write(folder, objects, name="objects.yaml"):
    (OUT / folder).mkdir(parents=True, exist_ok=True)
    with open(OUT / folder / name, "w") as f:
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
rng = random.Random(42)
keys = [rng.randbytes(16).hex() for _ in range(max(SIZES.values()))]
OUT.mkdir(parents=True, exist_ok=True)
for folder in OUT.glob("key-*"):
    shutil.rmtree(folder)
write("plain", base(http))
tls = {"mode": "Terminate", "certificateRefs": [{"name": "tls"}]}
write("tls", base({"name": "https", "protocol": "HTTPS", "port": 22000, "tls": tls}) + [
    obj("v1", "Secret", "tls", type="kubernetes.io/tls",
        stringData={"tls.crt": (OUT / "crt.pem").read_text(), "tls.key": (OUT / "key.pem").read_text()})])
for tag, count in SIZES.items():
    with open(OUT / f"keys-{tag}.txt", "w") as haproxy, open(OUT / f"keys-{tag}.ngx", "w") as nginx:
        for i in range(count):
            haproxy.write(f"{keys[i]} consumer-{i}\n")
            nginx.write(f"{keys[i]} consumer-{i};\n")
    with open(OUT / f"pool-{tag}", "w") as pool:
        pool.writelines(keys[i * count // POOL] + "\n" for i in range(POOL))
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "all"}
    write(f"key-{tag}", base(http) + [
        obj("postern.dev/v1alpha1", "AuthPlugin", "keys", {"targetRefs": [target], "keyAuth": {}})])
    # One Consumer for each key, as the peers have one name for each, unless told otherwise.
    consumers = min(CONSUMERS or count, count)
    for first in range(0, count, 10_000):
        part = range(first, min(first + 10_000, count))
        write(f"key-{tag}", itertools.chain(
            (obj("postern.dev/v1alpha1", "Consumer", f"consumer-{i}", {"username": f"consumer-{i}"})
             for i in part if i < consumers),
            (obj("postern.dev/v1alpha1", "Credential", f"key-{i}", {
                "consumerRef": {"name": f"consumer-{i % consumers}"},
                "keyAuth": {"hash": "sha256:" + hashlib.sha256(keys[i].encode()).hexdigest()}}) for i in part),
        ), f"keys-{first // 10_000:03}.yaml")

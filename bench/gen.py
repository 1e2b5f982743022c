#!/usr/bin/env python3
"""gen.py FOLDER [CONSUMERS]: API keys for the peers and manifests for Postern, the same every time.

Each key has a Consumer of its own, or all are spread over CONSUMERS of them."""
import hashlib
import itertools
import random
import shutil
import sys
from pathlib import Path

from manifests import base, http, obj, write

OUT = Path(sys.argv[1])
CONSUMERS = int(sys.argv[2]) if sys.argv[2:] else None
POOL = 1000     # how many keys of a list the load uses, spread over it
SIZES = {"1k": 1_000, "1m": 1_000_000}

rng = random.Random(42)
keys = [rng.randbytes(16).hex() for _ in range(max(SIZES.values()))]
OUT.mkdir(parents=True, exist_ok=True)
for folder in OUT.glob("key-*"):
    shutil.rmtree(folder)
write(OUT / "plain", base(http))
# Ten routes a host, each with a path of its own; look-ups go to the last of them.
for tag, count in (("1", 1), ("100", 100), ("10k", 10_000)):
    rule = {"backendRefs": [{"name": "up", "port": 80}]}
    write(OUT / f"routes-{tag}", base(http) + [
        obj("gateway.networking.k8s.io/v1", "HTTPRoute", f"r{i}", {
            "parentRefs": [{"name": "gateway"}], "hostnames": [f"h{i // 10}.test"],
            "rules": [rule | {"matches": [{"path": {"value": f"/p{i}"}}]}]}) for i in range(count)])
    with open(OUT / f"pool-routes-{tag}", "w") as pool:
        pool.writelines(f"h{i // 10}.test /p{i}/x\n" for i in range(max(0, count - 1000), count))
tls = {"mode": "Terminate", "certificateRefs": [{"name": "tls"}]}
write(OUT / "tls", base({"name": "https", "protocol": "HTTPS", "port": 22000, "tls": tls}) + [
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
    write(OUT / f"key-{tag}", base(http) + [
        obj("postern.dev/v1alpha1", "AuthPlugin", "keys", {"targetRefs": [target], "keyAuth": {}})])
    # One Consumer for each key, as the peers have one name for each, unless told otherwise.
    consumers = min(CONSUMERS or count, count)
    for first in range(0, count, 10_000):
        part = range(first, min(first + 10_000, count))
        write(OUT / f"key-{tag}", itertools.chain(
            (obj("postern.dev/v1alpha1", "Consumer", f"consumer-{i}", {"username": f"consumer-{i}"})
             for i in part if i < consumers),
            (obj("postern.dev/v1alpha1", "Credential", f"key-{i}", {
                "consumerRef": {"name": f"consumer-{i % consumers}"},
                "keyAuth": {"hash": "sha256:" + hashlib.sha256(keys[i].encode()).hexdigest()}}) for i in part),
        ), f"keys-{first // 10_000:03}.yaml")

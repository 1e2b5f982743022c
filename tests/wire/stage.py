"""What the parts of wire.py share: ports, objects, processes, and how much memory one takes."""
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(os.environ["WIRE_BIN"])
# Constant is: no more than this beyond what an idle gateway takes.
ROOM = 64 << 20


def port():
    """A free one from below those that Linux gives to connections: whoever closes it can open it again."""
    while True:
        number = random.randrange(10_000, 32_768)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", number))
            except OSError:
                continue
        if number not in TAKEN:
            TAKEN.add(number)
            return number


TAKEN = set()
HTTP, HTTPS, STATUS, UPSTREAMS = port(), port(), port(), {"go": port(), "node": port(), "python": port()}


def obj(api, kind, name, **more):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **more}


def service(name, number, protocol=None):
    about = {"port": 80, "targetPort": number} | ({"appProtocol": protocol} if protocol else {})
    yield obj("v1", "Service", name, spec={"ports": [about]})
    slices = obj("discovery.k8s.io/v1", "EndpointSlice", name, addressType="IPv4", ports=[{"port": number, "name": ""}],
                 endpoints=[{"addresses": ["127.0.0.1"]}])
    slices["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    yield slices


def route(name, to, hosts=(), closed=None, **more):
    """Everything to a Service; under the path `closed` only with a key. Whoever names no host is for the route without hosts."""
    backends = {"backendRefs": [{"name": to, "port": 80}], **more}
    rules = [{"name": "open", **backends}]
    if closed:
        rules.append({"name": "closed", "matches": [{"path": {"value": closed}}], **backends})
        yield obj("postern.dev/v1alpha1", "AuthPlugin", name, spec={"keyAuth": {}, "targetRefs": [{
            "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name, "sectionName": "closed"}]})
    names = {"hostnames": list(hosts)} if hosts else {}
    yield obj("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec={"parentRefs": [{"name": "gateway"}], "rules": rules} | names)


def start(command, ready):
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            urllib.request.urlopen(ready, timeout=1).read()
            return process
        except OSError:
            assert process.poll() is None, f"{command[0]} ended"
            time.sleep(0.05)
    raise SystemExit(f"{command[0]} does not answer")


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)


def memory(pid, what):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", text)[1]) << 10


def watch(pid):
    """What it takes now; VmHWM is the peak from here on."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid, "VmRSS")


def call(method, url, body=None):
    """Asks an API that speaks JSON."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=60) as answer:
        return answer.read()

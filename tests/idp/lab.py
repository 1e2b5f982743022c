"""What everything here runs in: identity providers, the gateway, an application behind it, and clients of all of them."""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
GATEWAY = "http://127.0.0.1:8000"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url, form=None, headers=None, document=None):
    """Status and body."""
    data = None
    headers = dict(headers or {})
    if form is not None:
        data = urllib.parse.urlencode(form).encode()
    if document is not None:
        data = json.dumps(document).encode()
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with DIRECT.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def at_once(count, ask):
    """What `ask` says for each number below `count`, all at the same time."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def basic(client, secret):
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


class Issuer:
    """A real identity provider, by its script."""

    environment = {}

    def script(self, action):
        environment = {**os.environ, **self.environment}
        subprocess.run([HERE / self.program, action], check=True, stdout=subprocess.DEVNULL, env=environment)

    def signal(self, number):
        """To its processes: what is started may be a shell that waits for the server."""
        pid = (self.state / "pid").read_text().strip()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *children):
            os.kill(int(process), number)

    @property
    def state(self):
        return pathlib.Path(os.environ[f"{self.short.upper()}_STATE"])


class Echo(http.server.BaseHTTPRequestHandler):
    """The application: it answers with the headers that it got."""

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def made(version, kind, name, **more):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def base():
    """A Gateway on port 8000, and the application as the Service "echo"."""
    v1 = "gateway.networking.k8s.io/v1"
    listener = {"name": "http", "port": 8000, "protocol": "HTTP"}
    port = {"name": "http", "port": 9000}
    return [
        made(v1, "GatewayClass", "postern", spec={"controllerName": "postern.dev/gateway-controller"}),
        made(v1, "Gateway", "gateway", spec={"gatewayClassName": "postern", "listeners": [listener]}),
        made("v1", "Service", "echo", spec={"type": "ExternalName", "externalName": "127.0.0.1", "ports": [port]}),
    ]


def route(name, host=None):
    """For all of a host, or else for what is below the path of its name."""
    rule = {"backendRefs": [{"name": "echo", "port": 9000}]}
    if host is None:
        rule["matches"] = [{"path": {"type": "PathPrefix", "value": f"/{name}"}}]
    spec = {"parentRefs": [{"name": "gateway"}], "rules": [rule], **({"hostnames": [host]} if host else {})}
    return made("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec=spec)


def plugin(name, **block):
    """On the route of its name."""
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}
    return made("postern.dev/v1alpha1", "AuthPlugin", name, spec={"targetRefs": [target], **block})


def secret(name, entries):
    return made("v1", "Secret", name, stringData=entries)


def write(folder, objects, name="all.json"):
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    (folder / "manifests" / name).write_text(json.dumps(items))


@contextlib.contextmanager
def application():
    """It runs meanwhile."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def scene(*issuers):
    """The providers run meanwhile; a folder with "manifests" and a "log", which is shown when something fails."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "manifests").mkdir()
        (folder / "log").touch()
        try:
            if issuers:
                at_once(len(issuers), lambda n: issuers[n].script("up"))
            yield folder
        except BaseException:
            lines = (folder / "log").read_text().splitlines()
            sys.stderr.write("\n".join(lines[-40:]) + "\n")
            raise
        finally:
            for issuer in issuers:
                issuer.script("down")


@contextlib.contextmanager
def program(folder, *command, **environment):
    """Runs meanwhile; what it prints is in the log."""
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def gateway(postern, folder, *flags, host="127.0.0.1"):
    """It is ready."""
    state = folder / f"state-{host}"
    command = [postern, "run", "--manifests", folder / "manifests", "--state-dir", state, *flags]
    with program(folder, *command) as process:
        wait_ready(process, f"http://{host}:8100")
        yield process


def wait_ready(process, status="http://127.0.0.1:8100"):
    for _ in range(600):
        assert process.poll() is None, "postern has ended"
        try:
            if call(status + "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("postern did not become ready")


def until(what, holds):
    """Asks until it holds."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def hidden(folder, values):
    """None of the values is in the log."""
    log = (folder / "log").read_text()
    leaked = [value for value in values if value in log]
    assert not leaked, f"{len(leaked)} tokens or secrets are in the log"

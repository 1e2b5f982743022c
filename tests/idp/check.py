"""Tokens of real issuers are accepted through their key sets: before and after a rotation, and while they are away.

check.py POSTERN: everything runs on loopback, on ports that are fixed: use run.sh, which gives it a network of its own.
"""

import base64
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


def basic(client, secret):
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


def token(url, **form):
    status, body = call(url, {"grant_type": "client_credentials", **form}, basic("gw-secret", "gw-secret-value"))
    assert status == 200, f"{url}: {status} {body}"
    return json.loads(body)["access_token"]


def header(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Issuer:
    """A real identity provider, by its script."""

    def script(self, action):
        subprocess.run([HERE / self.program, action], check=True, stdout=subprocess.DEVNULL, env=self.environment)


class Keycloak(Issuer):
    program, host = "keycloak.sh", "keycloak.test"
    environment = dict(os.environ)
    issuer = "http://127.0.0.1:18080/realms/gw"
    keys = issuer + "/protocol/openid-connect/certs"

    def token(self):
        return token(self.issuer + "/protocol/openid-connect/token")

    def admin(self):
        admin = "http://127.0.0.1:18080/realms/master/protocol/openid-connect/token"
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        status, body = call(admin, form)
        assert status == 200, body
        return {"Authorization": "Bearer " + json.loads(body)["access_token"]}

    def rotate(self):
        bearer = self.admin()
        config = {"priority": ["200"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"], "algorithm": ["RS256"]}
        component = {
            "name": "rotated", "providerId": "rsa-generated", "config": config,
            "providerType": "org.keycloak.keys.KeyProvider",
        }
        status, body = call("http://127.0.0.1:18080/admin/realms/gw/components", headers=bearer, document=component)
        assert status == 201, f"{status} {body}"


class OidcProvider(Issuer):
    program, host = "oidc-provider.sh", "op.test"
    environment = dict(os.environ)
    issuer = "http://127.0.0.1:18090"
    keys = issuer + "/jwks"

    def token(self):
        return token(self.issuer + "/token", resource="urn:gateway-api", scope="orders:read")

    def rotate(self):
        """Every start makes new keys."""
        self.script("down")
        self.script("up")


class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def objects(issuers):
    """One route for each issuer, and the Credential of its tokens."""
    gateway = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}
    postern, v1 = "postern.dev/v1alpha1", "gateway.networking.k8s.io/v1"
    made = [
        (v1, "GatewayClass", "postern", {"controllerName": "postern.dev/gateway-controller"}),
        (v1, "Gateway", "gateway", {
            "gatewayClassName": "postern", "listeners": [{"name": "http", "port": 8000, "protocol": "HTTP"}],
        }),
        ("v1", "Service", "echo", {
            "type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "http", "port": 9000}],
        }),
        (postern, "Consumer", "users", {}),
    ]
    for issuer in issuers:
        name = issuer.host.split(".")[0]
        made += [
            (v1, "HTTPRoute", name, {
                "parentRefs": [{"name": "gateway"}], "hostnames": [issuer.host],
                "rules": [{"backendRefs": [{"name": "echo", "port": 9000}]}],
            }),
            (postern, "AuthPlugin", name, {
                "targetRefs": [{**gateway, "name": name}], "jwt": {"claimsToVerify": ["exp"]},
            }),
            (postern, "Credential", name, {
                "consumerRef": {"name": "users"},
                "jwt": {"key": issuer.issuer, "algorithm": "RS256", "jwksUri": issuer.keys},
            }),
        ]
    return [
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        for version, kind, name, spec in made
    ]


def expect(issuer, token, status, when):
    got, body = call(GATEWAY + "/", headers={"Host": issuer.host, "Authorization": "Bearer " + token})
    assert got == status, f"{issuer.program}, {when}: {got} {body}"
    if status == 200:
        assert json.loads(body)["x-credential-identifier"] == issuer.issuer, body
    print(f"{issuer.program}: {when}: {got}")


def check(issuer):
    first = issuer.token()
    expect(issuer, first, 200, "a token")
    head, payload, signature = first.split(".")
    broken = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    expect(issuer, ".".join([head, payload, broken]), 403, "a wrong signature")
    issuer.rotate()
    second = issuer.token()
    assert header(first)["kid"] != header(second)["kid"], "the key was not rotated"
    expect(issuer, second, 200, "the first token of a new key")
    issuer.script("down")
    expect(issuer, second, 200, "a token while the issuer is away")
    return first, second


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


def main():
    postern = sys.argv[1]
    issuers = [Keycloak(), OidcProvider()]
    threading.Thread(
        target=http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Echo).serve_forever, daemon=True
    ).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "manifests").mkdir()
        items = {"apiVersion": "v1", "kind": "List", "items": objects(issuers)}
        (folder / "manifests" / "all.json").write_text(json.dumps(items))
        process = None
        try:
            starting = [threading.Thread(target=issuer.script, args=["up"]) for issuer in issuers]
            for thread in starting:
                thread.start()
            for thread in starting:
                thread.join()
            with open(folder / "log", "wb") as log:
                process = subprocess.Popen(
                    [postern, "run", "--manifests", folder / "manifests", "--state-dir", folder / "state"],
                    stdout=log, stderr=log,
                )
            wait_ready(process)
            tokens = [token for issuer in issuers for token in check(issuer)]
            log = (folder / "log").read_text()
            assert not any(token in log for token in tokens), "a token is in the log"
        except BaseException:
            if (folder / "log").exists():
                sys.stderr.write((folder / "log").read_text())
            raise
        finally:
            if process is not None:
                process.kill()
                process.wait()
            for issuer in issuers:
                issuer.script("down")
    print("ok")


if __name__ == "__main__":
    main()

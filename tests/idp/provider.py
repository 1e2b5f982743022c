"""The example of a login page, and real applications that get tokens of the gateway through it.

provider.py POSTERN BINARIES MODULES PYTHON GO: BINARIES is the folder of postern-login and postern-echo, MODULES where Node finds its
packages, PYTHON the interpreter that has the others, GO what was built of go/. Ports are fixed: use run.sh.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

import browser
import check
import fleet

HERE = pathlib.Path(__file__).parent
EXAMPLE = HERE / "../../examples/login/manifests/objects.yaml"
ORIGIN = "https://127.0.0.1:8443"
ISSUER = ORIGIN + "/orders"
APPLICATION = ["app", "app-secret-of-the-example", "http://localhost:9200/callback"]
PROVISION_KEY = "a key that only the login page and the gateway know"


def certificate(folder):
    """Of this machine, signed by itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
         "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )
    return {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}


def manifests(folder):
    """The example's, and a listener with TLS: real applications take no other."""
    http = "  - {name: http, protocol: HTTP, port: 8000}\n"
    https = "  - {name: https, protocol: HTTPS, port: 8443, tls: {certificateRefs: [{name: tls}]}}\n"
    grant = "    enableAuthorizationCode: true\n"
    text = EXAMPLE.read_text()
    assert http in text and grant in text
    text = text.replace(http, http + https).replace(grant, f"{grant}    loginUrl: {ORIGIN}/login\n")
    (folder / "objects.yaml").write_text(text)
    secrets = {"login-page": {"provisionKey": PROVISION_KEY}, "tls": certificate(folder.parent)}
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        for name, data in secrets.items()
    ]
    (folder / "secrets.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def code():
    """As the browser brings it."""
    _, _, redirect = APPLICATION
    query = {"client_id": "app", "response_type": "code", "scope": "orders", "redirect_uri": redirect}
    start = f"{check.GATEWAY}/login?{urllib.parse.urlencode(query)}"
    back, _, status, text = browser.Browser().follow(start, redirect, "alice", "alice-pw")
    assert status is None, f"{status} {text}"
    return urllib.parse.parse_qs(urllib.parse.urlsplit(back).query)["code"][0]


def main():
    postern, binaries, modules, python, goes = sys.argv[1:]
    binaries = pathlib.Path(binaries)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "manifests").mkdir()
        manifests(folder / "manifests")
        started = []

        def start(*command, **more):
            log = open(folder / "log", "ab")
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **more}))

        try:
            start(binaries / "postern-echo", "127.0.0.1:9000")
            start(
                binaries / "postern-login", PROVISION_KEY=PROVISION_KEY, GATEWAY_HOST="127.0.0.1:8443",
                GATEWAY_PATH="/orders/oauth2/authorize",
            )
            start(postern, "run", "--manifests", folder / "manifests", "--state-dir", folder / "state")
            check.wait_ready(started[-1])
            trusted = {
                **os.environ, "NODE_EXTRA_CA_CERTS": folder / "tls.crt", "SSL_CERT_FILE": folder / "tls.crt",
                "REQUESTS_CA_BUNDLE": folder / "tls.crt", "PYTHONPATH": HERE,
            }
            # Node looks for packages beside the script.
            script = shutil.copy(HERE / "clients.mjs", pathlib.Path(modules) / "clients.mjs")
            subprocess.run(["node", script, ISSUER, *APPLICATION, HERE / "browser.py"], check=True, env=trusted)
            subprocess.run([goes, ISSUER, *APPLICATION, HERE / "browser.py"], check=True, env=trusted)
            subprocess.run([python, HERE / "clients.py", ISSUER, *APPLICATION], check=True, env=trusted)
            started[-1].terminate()
            started[-1].wait(30)
            client, secret, redirect = APPLICATION
            application = {"client_id": client, "client_secret": secret, "redirect_uri": redirect}
            fleet.one_winner(postern, folder, code, application)
            print("ok   of 64 who redeem one code or one refresh token at two proxies, one wins")
            log = (folder / "log").read_text()
            for secret in (PROVISION_KEY, APPLICATION[1], "alice-pw"):
                assert secret not in log, "a secret is in the log"
        except BaseException:
            lines = (folder / "log").read_text().splitlines()
            sys.stderr.write("\n".join(lines[-30:]) + "\n")
            raise
        finally:
            for process in started:
                process.kill()
                process.wait()
    print("ok")


if __name__ == "__main__":
    main()

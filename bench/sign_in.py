#!/usr/bin/env python3
"""sign_in.py FOLDER GATEWAY: signs in as often as there are tokens in a pool, and leaves the cookies in pool-oidc-session.

It is the user, and the token endpoint of the provider whose metadata and keys tokens.py made.
"""
import http.server
import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from manifests import b64

OUT, GATEWAY = Path(sys.argv[1]), sys.argv[2]
SESSIONS = 1000
KEY = serialization.load_pem_private_key((OUT / "rs256.pem").read_bytes(), None)
ISSUER = json.loads((OUT / "idp" / ".well-known" / "openid-configuration").read_text())["issuer"]
ACCESS_TOKENS = (OUT / "pool-oidc-bearer").read_text().split()


def signed(claims):
    message = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "RS256"}, claims))
    return message + "." + b64(KEY.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256()))


class TokenEndpoint(http.server.BaseHTTPRequestHandler):
    """Takes the nonce of the login for its code."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        number, nonce = form["code"][0].split(":")
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "bench", "sub": "caller", "iat": now, "exp": now + 3600, "nonce": nonce,
                  "preferred_username": f"user-{number}", "name": "A User of the Benchmark", "email": f"user-{number}@users.test"}
        tokens = {"access_token": ACCESS_TOKENS[int(number)], "id_token": signed(claims), "token_type": "Bearer",
                  "refresh_token": nonce, "expires_in": 3600}
        body = json.dumps(tokens).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))


def get(url, cookies):
    """Where the answer leads to; the cookies that it sets join `cookies`."""
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    request = urllib.request.Request(url, headers={"Accept": "text/html", "Cookie": header})
    try:
        answer = OPENER.open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    assert answer.status == 302, f"{url}: {answer.status} {answer.read().decode()}"
    for line in answer.headers.get_all("Set-Cookie") or []:
        name, value = line.split(";")[0].split("=", 1)
        if value:
            cookies[name] = value
        else:
            cookies.pop(name, None)
    return answer.headers["Location"]


def sign_in(number):
    cookies = {}
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(get(f"http://{GATEWAY}/", cookies)).query)
    answer = {"state": asked["state"][0], "code": f"{number}:{asked['nonce'][0]}"}
    get(f"{asked['redirect_uri'][0]}?{urllib.parse.urlencode(answer)}", cookies)
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


endpoint = http.server.ThreadingHTTPServer(("127.0.0.1", 21001), TokenEndpoint)
threading.Thread(target=endpoint.serve_forever, daemon=True).start()
with open(OUT / "pool-oidc-session", "w") as pool:
    pool.writelines(sign_in(number) + "\n" for number in range(SESSIONS))

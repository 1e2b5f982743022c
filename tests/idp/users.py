"""What users do with pages behind the gateway, and what they and the application see."""

import base64
import json

import lab
from providers import SECRET


def sign_in(user, url):
    """Opens a page, signs in where asked, and returns what the upstream saw."""
    ended, _, status, text = user.follow(url, username="alice", password="alice-pw")
    assert (ended, status) == (url, 200), f"{url}: {ended} {status} {text}\n{user.trace}"
    return json.loads(text)


def seen(user, url):
    """What the upstream sees of a request that needs no provider any more."""
    status, headers, text = user.request(url)
    assert status == 200, f"{url}: {status} {headers.get('Location')} {text}"
    return json.loads(text)


def asked_to_sign_in(user, url, provider):
    status, headers, _ = user.request(url)
    location = headers.get("Location") or ""
    assert status == 302 and location.startswith(provider.issuer), f"{url}: {status} {location}"
    return location


def claims(header):
    return json.loads(base64.b64decode(header + "=" * (-len(header) % 4)))


def active(provider, token, client):
    status, body = lab.call(provider.introspection, {"token": token}, lab.basic(client, SECRET))
    assert status == 200, f"{status} {body}"
    return json.loads(body)["active"]


def says(provider, what):
    print(f"{provider.program}: {what}", flush=True)

"""Tokens for upstreams from real providers, with each way in which the gateway can prove itself."""

import json

import lab
from users import active

SCOPES = {"kc": ["profile"], "op": [], "si": ["profile"]}
METHODS = {
    "basic": {"authMethod": "client_secret_basic"},
    "post": {"authMethod": "client_secret_post"},
    # The providers know the key of the client for HS256.
    "secret-jwt": {"authMethod": "client_secret_jwt", "clientSecretJwtAlg": "HS256"},
    "private-key": {"authMethod": "private_key_jwt"},
}


def objects(provider):
    for name, client in METHODS.items():
        if name not in provider.clients:
            continue
        own = f"{provider.short}-up-{name}"
        secrets = f"{provider.short}-clients"
        signs_in_as = provider.clients[name]
        oauth = {
            "tokenEndpoint": provider.token_endpoint, "clientId": signs_in_as["clientId"], "scopes": SCOPES[provider.short],
        }
        if name == "private-key":
            client = {**client, "privateKeySecretRef": {"name": secrets, "key": "key"}}
        else:
            oauth["clientSecretRef"] = {"name": secrets, "key": signs_in_as["clientSecretRef"]["key"]}
        yield lab.route(own)
        yield lab.plugin(own, upstreamOauth={"oauth": oauth, "client": client})


def tokens(provider):
    """Every upstream gets one token, however many ask at once; returns them."""
    found = []
    for name in METHODS.keys() & provider.clients.keys():
        page = f"{lab.GATEWAY}/{provider.short}-up-{name}/"
        answers = lab.at_once(16, lambda _: lab.call(page, headers={"Authorization": "Bearer mine"}))
        assert {status for status, _ in answers} == {200}, answers[0]
        sent = {json.loads(body)["authorization"] for _, body in answers}
        assert len(sent) == 1, f"{name}: {len(sent)} tokens"
        word, token = sent.pop().split(" ")
        assert word == "Bearer" and token != "mine"
        if name in ("basic", "post"):
            client = provider.clients[name]["clientId"]
            assert active(provider, token, client), f"{name}: the provider does not know the token"
        found.append(token)
    return found

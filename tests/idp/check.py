"""Tokens of real issuers are accepted through their key sets: before and after a rotation, and while they are away.

check.py POSTERN: everything runs on loopback, on ports that are fixed: use run.sh, which gives it a network of its own.
"""

import base64
import json
import sys

import lab
import providers


def header(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def objects(issuers):
    """One route for each issuer, and the Credential of its tokens."""
    v1 = "postern.dev/v1alpha1"
    yield from lab.base()
    yield lab.made(v1, "Consumer", "users")
    for issuer in issuers:
        name = issuer.short
        yield lab.route(name, f"{name}.test")
        yield lab.plugin(name, jwt={"claimsToVerify": ["exp"]})
        key = {"key": issuer.issuer, "algorithm": "RS256", "jwksUri": issuer.keys}
        yield lab.made(v1, "Credential", name, spec={"consumerRef": {"name": "users"}, "jwt": key})


def expect(issuer, token, status, when):
    got, body = lab.call(lab.GATEWAY + "/", headers={"Host": f"{issuer.short}.test", "Authorization": "Bearer " + token})
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


def main():
    postern, = sys.argv[1:]
    issuers = [providers.Keycloak(), providers.OidcProvider()]
    with lab.application(), lab.scene(*issuers) as folder:
        lab.write(folder, [*objects(issuers)])
        with lab.gateway(postern, folder):
            tokens = [token for issuer in issuers for token in check(issuer)]
        lab.hidden(folder, tokens)
    print("ok")


if __name__ == "__main__":
    main()

"""The providers: a real Keycloak, oidc-provider and Spring Authorization Server, their clients, and what is done there by others."""

import json
import secrets

import lab

BYE = lab.GATEWAY + "/bye"
SHARED = "shared"
# Plugins with which users sign in, beside those that are named after clients.
OTHERS = ("wrong", "plain", "silent", "named", SHARED)
SECRET = "gw-secret-value"
LONG_SECRET = "gw-secret-jwt-value-of-at-least-64-bytes-0123456789abcdef0123456789"
KEY = {"clientRsaPrivateKeyRef": {"name": "clients", "key": "key"}, "clientRsaPrivateKeyId": "client-key"}


def secret(entry):
    return {"clientSecretRef": {"name": "clients", "key": entry}}


def callbacks(provider, names):
    """Where it may send browsers."""
    return ",".join([*(f"{lab.GATEWAY}/{provider.short}-{name}/callback" for name in names), BYE])


def token(url, **form):
    form = {"grant_type": "client_credentials", **form}
    status, body = lab.call(url, form, lab.basic("gw-secret", SECRET))
    assert status == 200, f"{url}: {status} {body}"
    return json.loads(body)["access_token"]


class Keycloak(lab.Issuer):
    program, short = "keycloak.sh", "kc"
    server = "http://127.0.0.1:18080"
    issuer = server + "/realms/gw"
    keys = issuer + "/protocol/openid-connect/certs"
    token_endpoint = issuer + "/protocol/openid-connect/token"
    introspection = token_endpoint + "/introspect"
    userinfo = issuer + "/protocol/openid-connect/userinfo"
    more = {"scope": "openid profile email"}
    # The claim that says "alice".
    name = "preferred_username"
    introspects_as = {"clientId": "gw-bearer", **secret("bearer")}
    clients = {
        "basic": {"clientId": "gw-secret", "tokenEndpointAuthMethod": "client_secret_basic", **secret("secret")},
        "post": {"clientId": "gw-secret", "tokenEndpointAuthMethod": "client_secret_post", **secret("secret")},
        "secret-jwt": {"clientId": "gw-secret-jwt", "tokenEndpointAuthMethod": "client_secret_jwt", **secret("long")},
        "private-key": {"clientId": "gw-private-key-jwt", "tokenEndpointAuthMethod": "private_key_jwt", **KEY},
        "public": {"clientId": "gw-public"},
        "es256": {"clientId": "gw-es256", **secret("es256")},
    }

    def __init__(self):
        self.environment = {"KC_BACKCHANNEL_LOGOUT_URL": f"{lab.GATEWAY}/kc-{SHARED}/ended"}

    def token(self):
        return token(self.token_endpoint)

    def manage(self, path, document=None):
        """What an administrator is answered."""
        admin = self.server + "/realms/master/protocol/openid-connect/token"
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        _, body = lab.call(admin, form)
        bearer = {"Authorization": "Bearer " + json.loads(body)["access_token"]}
        status, body = lab.call(f"{self.server}/admin/realms/gw/{path}", headers=bearer, document=document)
        assert status < 300, f"{path}: {status} {body}"
        return json.loads(body) if body else None

    def rotate(self):
        config = {"priority": ["200"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"], "algorithm": ["RS256"]}
        self.manage("components", {
            "name": "rotated", "providerId": "rsa-generated", "config": config,
            "providerType": "org.keycloak.keys.KeyProvider",
        })

    def known(self):
        """A token that introspection knows."""
        return self.token()

    def enlarge(self, client):
        """Makes all that the client gets larger than cookies can be."""
        config = {
            "claim.name": "large", "claim.value": secrets.token_urlsafe(7500), "jsonType.label": "String",
            "id.token.claim": "true", "access.token.claim": "true", "userinfo.token.claim": "true",
        }
        mapper = {
            "name": "large", "protocol": "openid-connect", "protocolMapper": "oidc-hardcoded-claim-mapper", "config": config,
        }
        client, = self.manage(f"clients?clientId={client}")
        self.manage(f"clients/{client['id']}/protocol-mappers/models", mapper)

    def end_sessions(self, _):
        """As an administrator does."""
        user, = self.manage("users?username=alice")
        self.manage(f"users/{user['id']}/logout", {})


class OidcProvider(lab.Issuer):
    program, short = "oidc-provider.sh", "op"
    issuer = "http://127.0.0.1:18090"
    keys = issuer + "/jwks"
    token_endpoint = issuer + "/token"
    introspection = token_endpoint + "/introspection"
    userinfo = issuer + "/me"
    # It gives refresh tokens to those who ask for this, and users who agree to it.
    more = {"scope": "openid profile email offline_access", "authorizationParams": {"prompt": "consent"}}
    introspects_as = Keycloak.introspects_as
    name = "sub"
    clients = {**Keycloak.clients, "post": {**Keycloak.clients["post"], "clientId": "gw-post"}}

    def __init__(self):
        self.environment = {
            "OP_REDIRECT_URIS": callbacks(self, [*self.clients, *OTHERS]),
            "OP_BACKCHANNEL_LOGOUT_URI": f"{lab.GATEWAY}/op-{SHARED}/ended",
        }

    def token(self):
        return token(self.token_endpoint, resource="urn:gateway-api", scope="orders:read")

    def rotate(self):
        """Every start makes new keys."""
        self.script("down")
        self.script("up")

    def renewals(self):
        log = (self.state / "log").read_text()
        return log.count("grant refresh_token")

    def known(self):
        """It says nothing of tokens that are signed."""
        return token(self.token_endpoint)

    def end_sessions(self, user):
        """As the user does who signs out there."""
        _, _, status, text = user.follow(self.issuer + "/session/end", username="alice", password="alice-pw")
        assert status == 200, f"{status} {text}"


class Spring(lab.Issuer):
    program, short = "spring.sh", "si"
    issuer = "http://127.0.0.1:18095"
    token_endpoint = issuer + "/oauth2/token"
    introspection = issuer + "/oauth2/introspect"
    userinfo = issuer + "/userinfo"
    more = {"scope": "openid profile email"}
    clients = {name: Keycloak.clients[name] for name in ("basic", "post", "secret-jwt", "public")}
    introspects_as = {"clientId": "gw-secret", **secret("secret")}
    name = "sub"

    def __init__(self):
        self.environment = {"SI_REDIRECT_URIS": callbacks(self, [*self.clients, *OTHERS])}

    def token(self):
        return token(self.token_endpoint)

    known = token

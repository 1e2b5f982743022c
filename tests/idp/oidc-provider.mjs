// An OpenID provider on loopback for tests: same clients as realm.json, opaque
// access tokens by default and JWT ones for the resource urn:gateway-api.
// Its development login page takes any password.
//   node oidc-provider.mjs
// Variables: OP_PORT, OP_CLIENT_KEY (PEM of the private_key_jwt client),
//   OP_REDIRECT_URIS, OP_BACKCHANNEL_LOGOUT_URI
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Provider } from 'oidc-provider';

const port = Number(process.env.OP_PORT ?? 18090);
const issuer = `http://127.0.0.1:${port}`;
const redirects = (process.env.OP_REDIRECT_URIS ?? 'http://127.0.0.1:18999/callback').split(',');
const backchannel = process.env.OP_BACKCHANNEL_LOGOUT_URI;
const clientKey = process.env.OP_CLIENT_KEY;

function signingKey(type, options, alg) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), alg, use: 'sig' };
}

function client(client_id, token_endpoint_auth_method, more = {}) {
  return {
    client_id,
    token_endpoint_auth_method,
    redirect_uris: redirects,
    post_logout_redirect_uris: redirects,
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    ...(backchannel && { backchannel_logout_uri: backchannel, backchannel_logout_session_required: true }),
    ...more,
  };
}

const clients = [
  client('gw-secret', 'client_secret_basic', { client_secret: 'gw-secret-value' }),
  client('gw-post', 'client_secret_post', { client_secret: 'gw-secret-value' }),
  client('gw-secret-jwt', 'client_secret_jwt', {
    client_secret: 'gw-secret-jwt-value-of-at-least-64-bytes-0123456789abcdef0123456789',
    token_endpoint_auth_signing_alg: 'HS256',
  }),
  client('gw-public', 'none', { grant_types: ['authorization_code', 'refresh_token'] }),
  client('gw-es256', 'client_secret_basic', {
    client_secret: 'gw-es256-value',
    id_token_signed_response_alg: 'ES256',
  }),
  client('gw-bearer', 'client_secret_basic', {
    client_secret: 'gw-bearer-value',
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
  }),
];
if (clientKey) {
  const jwk = createPublicKey(readFileSync(clientKey)).export({ format: 'jwk' });
  clients.push(client('gw-private-key-jwt', 'private_key_jwt', {
    jwks: { keys: [{ ...jwk, kid: 'client-key', alg: 'RS256', use: 'sig' }] },
    token_endpoint_auth_signing_alg: 'RS256',
  }));
}

const provider = new Provider(issuer, {
  clients,
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
  jwks: {
    keys: [
      signingKey('rsa', { modulusLength: 2048 }, 'RS256'),
      signingKey('ec', { namedCurve: 'P-256' }, 'ES256'),
    ],
  },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: ['openid', 'offline_access', 'orders:read'],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'groups'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  rotateRefreshToken: true,
  pkce: { required: () => true },
  ttl: { AccessToken: 300, AuthorizationCode: 60, ClientCredentials: 300, IdToken: 300, RefreshToken: 3600, Session: 3600 },
  // Its own guard keeps it from calling loopback (logout, jwks_uri); here the peers are there.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: (use) => ({
      // Its userinfo endpoint takes mallory for alice.
      sub: use === 'userinfo' && id === 'mallory' ? 'alice' : id,
      name: id,
      preferred_username: id,
      groups: ['engineering'],
      email: `${id}@example.test`,
      email_verified: true,
    }),
  }),
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (ctx, caller) => caller.clientAuthMethod !== 'none' },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'orders:read',
        audience: resource,
        accessTokenTTL: 300,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
for (const name of ['server_error', 'grant.error', 'authorization.error']) {
  provider.on(name, (ctx, err) => console.error(name, err.message, err.error_detail ?? ''));
}
provider.on('grant.success', (ctx) => console.log('grant', ctx.oidc.params.grant_type));
provider.on('backchannel.error', (ctx, err, to) => console.error('backchannel.error', to.clientId, err.message, err.cause?.message ?? ''));
const server = provider.listen(port, '127.0.0.1', () => console.log(issuer));
process.on('SIGTERM', () => { server.closeAllConnections(); server.close(() => process.exit(0)); });

// An OpenID provider that is not ours, for tests: the npm package `oidc-provider` on a loopback port.
//
// PKCE is required, refresh tokens rotate (an old one that comes again ends its whole family), and
// callbacks carry `iss`. Its pages to log in and consent are the package's own `devInteractions`.
//
//   node oidc.mjs MODULES '{"clients": […], "access_token_seconds": 60}'
//
// prints one line {"issuer"} once it listens, then one line {"event", "error"?} for each token
// call, and ends when its input ends.

import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, text] = process.argv.slice(2);
const require = createRequire(join(modules, 'node_modules', '_'));
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const asked = JSON.parse(text);

const server = createServer();
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: asked.clients,
  cookies: { keys: ['a key for tests'] },
  features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true }, revocation: { enabled: true } },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: asked.access_token_seconds ?? 3600, Interaction: 600, Session: 600, Grant: 86400 },
});
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
provider.on('grant.success', (ctx) => say({ event: 'granted', grant: ctx.oidc.params.grant_type }));
provider.on('grant.error', (ctx, error) => say({ event: 'refused', grant: ctx.oidc?.params?.grant_type, error: error.error, why: error.error_detail }));
provider.on('grant.revoked', () => say({ event: 'family ended' }));
server.on('request', provider.callback());
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
say({ issuer });

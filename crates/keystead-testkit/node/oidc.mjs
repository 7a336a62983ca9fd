// An OpenID provider that is not ours, for tests: the npm package `oidc-provider` on a loopback port.
//
// PKCE is required, refresh tokens rotate (an old one that comes again ends its whole family), and
// callbacks carry `iss`. Its pages to log in and consent are the package's own `devInteractions`.
//
//   node oidc.mjs MODULES '{"issuer": "https://…", "clients": […]}'
//
// prints one line {"address"} once it listens, then one line {"event", …} for each token call with
// what it granted, and ends when its input ends.

import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, text] = process.argv.slice(2);
const require = createRequire(join(modules, 'node_modules', '_'));
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const told = JSON.parse(text);

const provider = new Provider(told.issuer, {
  clients: told.clients,
  clockTolerance: 0,
  cookies: { keys: ['a key for tests'] },
  features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
  pkce: { required: (ctx) => ctx.oidc.route === 'authorization' },
  rotateRefreshToken: true,
  issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: 3600, DeviceCode: 600, Grant: 86400, Interaction: 600, Session: 600 },
});
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const grant = (ctx) => ctx.oidc?.params?.grant_type;
provider.on('grant.success', (ctx) => {
  const { access_token, refresh_token } = ctx.body;
  say({ event: 'granted', grant: grant(ctx), access_token, refresh_token });
});
provider.on('grant.error', (ctx, fault) => say({ event: 'refused', grant: grant(ctx), error: fault.error, why: fault.error_detail }));
provider.on('server_error', (_, fault) => process.stderr.write(`${fault.stack}\n`));

// Its own pages are asked for by another name than they are reached by.
const listener = provider.callback();
const server = createServer((request, response) => {
  if (request.url.startsWith('/device/auth')) {
    request.headers['x-forwarded-proto'] = 'https';
    request.headers['x-forwarded-host'] = new URL(told.issuer).host;
  }
  listener(request, response);
});
provider.proxy = true;
server.listen(0, '127.0.0.1', () => say({ address: `127.0.0.1:${server.address().port}` }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

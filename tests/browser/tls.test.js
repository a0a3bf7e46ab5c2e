// Pages and WebSocket behind TLS, in a real browser: it speaks with the server by its certificate's name, and by no other.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launchBrowser, startWith } from './demo.js';

let folder;
let server;
let browser;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidewire-tls-'));
  const file = (name) => join(folder, name);
  const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  execFileSync('openssl', [...made, '-keyout', file('key.pem'), '-out', file('certificate.pem')], { stdio: 'ignore' });
  const listener = ['[[listener]]', 'name = "public"', 'address = "127.0.0.1:0"', `certificate_files = ["${file('certificate.pem')}"]`, `key_files = ["${file('key.pem')}"]`];
  await writeFile(file('config.toml'), [...listener, 'hosts = ["localhost"]', ''].join('\n'));
  server = await startWith(['serve', '--dev', '--ephemeral', '--config', file('config.toml')]);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The page of the listener with TLS, by the name of its certificate. */
function pageAddress() {
  const [, port] = /public at https:\/\/127\.0\.0\.1:(\d+)/.exec(server.output());
  return `https://localhost:${port}/`;
}

test('a page comes by https, and its session by wss', async () => {
  // The certificate is of nobody whom a browser trusts.
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url()));
  const response = await page.goto(pageAddress());
  assert.equal(response.status(), 200);
  assert.match((await response.securityDetails()).protocol, /TLS 1\.3/);
  await page.waitForFunction(() => document.querySelector('[data-top=state]').textContent === 'Connected');
  assert.ok(sockets.length > 0 && sockets.every((url) => url.startsWith('wss://localhost:')), sockets.join());
  await page.close();
});

test('a browser that does not trust the certificate does not come', async () => {
  const page = await browser.newPage();
  await assert.rejects(page.goto(pageAddress()), /ERR_CERT_AUTHORITY_INVALID/);
  await page.close();
});

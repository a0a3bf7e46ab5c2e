// A page whose connection breaks, and one whose server is killed and started anew under it.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { launchBrowser, startServer } from './demo.js';
import { startProxy } from './proxy.js';

let browser;
const cleanups = [];

before(async () => {
  browser = await launchBrowser();
});

after(() => browser?.close());

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

/** A server with a store, and a proxy before it. */
async function start() {
  const directory = await mkdtemp(join(tmpdir(), 'tidewire-browser-'));
  cleanups.push(() => rm(directory, { recursive: true, force: true }));
  const proxy = await startProxy();
  cleanups.push(() => proxy.stop());
  let server = await startServer(directory);
  cleanups.push(() => server.kill());
  proxy.lead(server.url);
  const restart = async () => {
    proxy.lead(undefined);
    await server.kill();
    server = await startServer(directory);
    proxy.lead(server.url);
  };
  return { proxy, restart, url: () => server.url };
}

/** A page with a session that notes in `window` what it is told. */
async function openPage(url, options) {
  const page = await browser.newPage();
  cleanups.push(() => page.close());
  await page.goto(`${url}/health`);
  await page.evaluate(async (given) => {
    const { connect, TopicType } = await import('/sdk/tidewire.js');
    Object.assign(window, { TopicType, states: [], told: [] });
    const onState = ({ state, resumed }) => window.states.push(resumed === undefined ? state : `${state} ${resumed}`);
    const reconnect = { initialDelayMs: 20, delayMaxMs: 100 };
    window.session = await connect(location.origin, { reconnect, onState, ...given });
  }, options ?? {});
  return page;
}

function listen(page, selector) {
  return page.evaluate(async (wanted) => {
    const note = (text) => window.told.push(text);
    window.session.addStream(wanted, 'json', {
      subscription: (path) => note(`+${path}`),
      value: (path, _, value) => note(`${path}=${value}`),
      gap: (path) => note(`~${path}`),
      unsubscription: (path) => note(`-${path}`),
    });
    await window.session.subscribe(wanted);
  }, selector);
}

function set(page, path, value) {
  return page.evaluate(([at, to]) => window.session.topics.set(at, to, 'json'), [path, value]);
}

function until(page, told) {
  return page.waitForFunction((wanted) => window.told.includes(wanted), told);
}

test('a page whose connection breaks again and again is told everything once and in order', async () => {
  const { proxy, url } = await start();
  const writer = await openPage(url());
  await writer.evaluate(() => window.session.topics.add('b/n', window.TopicType.JSON, { CONFLATION: 'off' }));
  const reader = await openPage(proxy.url);
  await listen(reader, '?b//');
  for (let number = 1; number <= 60; number += 1) {
    if (number % 6 === 0) proxy.cut();
    await set(writer, 'b/n', number);
  }
  await until(reader, 'b/n=60');
  const [told, states] = await reader.evaluate(() => [window.told, window.states]);
  assert.deepEqual(told, ['+b/n', ...Array.from({ length: 60 }, (_, at) => `b/n=${at + 1}`)]);
  assert.ok(states.filter((state) => state === 'recovering').length > 0, String(states));
  assert.ok(!states.slice(2).includes('connected false'), String(states));
});

test('a session that is durable is there after its server was killed, and so is what it selected', async () => {
  const { proxy, restart, url } = await start();
  const writer = await openPage(url());
  await writer.evaluate(() => window.session.topics.add('b/kept', window.TopicType.JSON, {}));
  await set(writer, 'b/kept', 1);
  const page = await openPage(proxy.url, { durable: true });
  const passing = await openPage(proxy.url);
  for (const reader of [page, passing]) await listen(reader, '?b//');
  for (const reader of [page, passing]) await until(reader, 'b/kept=1');
  const ids = await Promise.all([page, passing].map((reader) => reader.evaluate(() => window.session.id)));
  // What is stored after it vouches for what was to be stored before.
  await set(writer, 'b/kept', 2);
  await restart();
  const other = await openPage(url());
  await set(other, 'b/kept', 3);
  for (const reader of [page, passing]) await until(reader, 'b/kept=3');
  const now = await Promise.all([page, passing].map((reader) => reader.evaluate(() => window.session.id)));
  assert.equal(now[0], ids[0]);
  assert.notEqual(now[1], ids[1]);
  for (const reader of [page, passing]) {
    const [told, states] = await reader.evaluate(() => [window.told, window.states]);
    assert.equal(told[0], '+b/kept');
    assert.ok(!told.includes('-b/kept'), String(told));
    assert.equal(told.filter((text) => text === '+b/kept').length, 1, String(told));
    assert.equal(states.at(-1), 'connected false', String(states));
  }
});

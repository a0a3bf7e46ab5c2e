// Looking at sessions and steering them, against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, startMockServer } from './mock-server.js';

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

/** A server, and as many sessions as there are options. */
async function start(serverOptions, ...sessionOptions) {
  const server = await startMockServer(serverOptions);
  cleanups.push(() => server.stop());
  const sessions = [];
  for (const options of sessionOptions) {
    const session = await tidewire.connect(server.url, { WebSocket, reconnect: { initialDelayMs: 1 }, closeTimeoutMs: 200, ...options });
    cleanups.push(() => session.close());
    sessions.push(session);
  }
  return [server, ...sessions];
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** What refuses the operations whose names end so. */
const refuse = (name, code, position) => ({ op, id }, connection) => op.endsWith(name) && (connection.send(errorFrame(id, code, 'no', position)), true);

const GOLD = { properties: { Tier: 'gold' } };
const COUNTS = { isAway: false, subscriptions: 0, queueBytes: 300, sentBytes: 70_000, conflations: 0, isConflated: false, dropped: 2, sentBytesPerSecond: 1_500 };

test('sessions are listed page by page, with their properties', async () => {
  const [server, one, two, three] = await start({}, {}, GOLD, GOLD);
  const shown = (session, properties) => ({ sessionId: session.id, properties, ...COUNTS, idleMs: session === one ? undefined : 900 });
  const all = [shown(one, {}), shown(two, GOLD.properties), shown(three, GOLD.properties)];
  assert.deepEqual(await one.clients.list(), { hasMore: false, sessions: all });
  assert.deepEqual(await one.clients.list({ first: 2 }), { hasMore: true, sessions: all.slice(0, 2) });
  assert.deepEqual(await one.clients.list({ first: 2, after: two.id }), { hasMore: false, sessions: all.slice(2) });
  assert.deepEqual(await one.clients.list({ filter: "Tier is 'gold'" }), { hasMore: false, sessions: all.slice(1) });
  assert.deepEqual(await one.clients.list({ slowest: true, first: 1 }), { hasMore: true, sessions: all.slice(0, 1) });
  assert.deepEqual(server.received.filter(({ op }) => op === 'list_sessions').map(({ slowest }) => slowest), [false, false, false, false, true]);
});

test('what a session selects is read page by page', async () => {
  const [, one, two] = await start({}, {}, {});
  await two.subscribe('?a//');
  await two.subscribe('b', 'mine');
  await two.unsubscribe('>a/b');
  const all = [
    { scope: '', selector: '?a//', kind: 'select' },
    { scope: 'mine', selector: 'b', kind: 'select' },
    { scope: '', selector: 'a/b', kind: 'deselect' },
  ];
  assert.deepEqual(await one.clients.selections(two.id), { hasMore: false, selections: all });
  assert.deepEqual(await one.clients.selections(two.id, { first: 2 }), { hasMore: true, selections: all.slice(0, 2) });
  assert.deepEqual(await one.clients.selections(two.id, { after: 2 }), { hasMore: false, selections: all.slice(2) });
  await assert.rejects(one.clients.selections('S-99'), tidewire.NoSuchSessionError);
});

test('the server is told what the client runs in', async () => {
  const [server] = await start({}, {});
  assert.equal(server.received[0].environment, `NODE_${process.platform}_${process.versions.node}`);
});

test('sessions are closed for good, with the reason', async () => {
  const [, one, two, three] = await start({ resume: { recoveryBytesMax: 1_000 } }, {}, GOLD, GOLD);
  assert.equal(await one.clients.close({ session: 'S-99' }, 'nobody'), 0);
  assert.equal(await one.clients.close({ session: two.id }, 'the trial is over'), 1);
  assert.deepEqual(pick(await two.closed), ['CLOSED_BY_SERVER', 4106, 'the trial is over']);
  assert.equal(await one.clients.close({ filter: "Tier is 'gold'" }), 2);
  assert.deepEqual(pick(await three.closed), ['CLOSED_BY_SERVER', 4106, '']);
  assert.equal(one.state, 'connected');
});

const pick = ({ status, code, reason }) => [status, code, reason];

test('properties of sessions are set, and said at each connection that begins one', async () => {
  const [server, one, two] = await start({ resume: { recoveryBytesMax: 1_000 } }, {}, GOLD);
  assert.equal(await one.clients.setProperties({ filter: 'all' }, { Desk: '7' }), 2);
  assert.deepEqual(server.last.properties, { Tier: 'gold', Desk: '7' });
  const connects = () => server.received.filter(({ op }) => op === 'connect').slice(2).map(({ token, properties }) => [token !== undefined, properties]);
  const becomes = (resumed) => new Promise((resolve) => two.on('state', (event) => event.resumed === resumed && resolve()));
  let changed = becomes(true);
  server.cut(server.last);
  await changed;
  assert.deepEqual(connects(), [[true, undefined]]);
  changed = becomes(false);
  server.forgetSessions();
  await changed;
  assert.deepEqual(connects().at(-1), [false, GOLD.properties]);
});

test('properties that the server refuses are no session', async () => {
  const server = await startMockServer({ answer: refuse('connect', 319) });
  cleanups.push(() => server.stop());
  await assert.rejects(tidewire.connect(server.url, { WebSocket, properties: { $Principal: 'me' } }), tidewire.InvalidSessionPropertyError);
});

test('sessions are conflated, and not any more', async () => {
  const [server, one, two] = await start({}, {}, GOLD);
  assert.equal(await one.clients.setConflated({ session: two.id }, true), 1);
  assert.equal(server.last.conflated, true);
  assert.equal(await one.clients.setConflated({ filter: "Tier is 'gold'" }, false), 1);
  assert.equal(server.last.conflated, false);
});

test('sessions are subscribed and unsubscribed by another', async () => {
  const [server, one, two] = await start({}, {}, GOLD);
  server.put('a/b', 'json', '1');
  const events = [];
  two.addStream('?a//', 'json', { value: (path, _, value) => events.push([path, value]), unsubscription: (path) => events.push([path]) });
  assert.equal(await one.clients.subscribe({ session: two.id }, '?a//', 'mine'), 1);
  while (events.length < 1) await turn();
  assert.equal(await one.clients.unsubscribe({ filter: "Tier is 'gold'" }, '?a//', 'mine'), 1);
  while (events.length < 2) await turn();
  assert.deepEqual(events, [['a/b', 1], ['a/b']]);
});

test('what the server refuses has its class', async () => {
  const [, { clients }] = await start({ answer: refuse('_sessions', 318, 5) }, {});
  await assert.rejects(clients.list({ filter: 'Tier' }), (error) => error instanceof tidewire.InvalidFilterError && error.position === 5);
  await assert.rejects(clients.close({ filter: 'Tier' }), tidewire.InvalidFilterError);
});

test('who is meant is said in one way, and wrong arguments are not sent', async () => {
  const [server, { clients }] = await start({}, {});
  const all = { filter: 'all' };
  const calls = [
    () => clients.close(),
    () => clients.close('S-1'),
    () => clients.close({}),
    () => clients.close({ session: '' }),
    () => clients.close({ filter: '' }),
    () => clients.close({ session: 'S-1', filter: 'all' }),
    () => clients.close(all, 7),
    () => clients.setProperties(all),
    () => clients.setProperties(all, { Tier: 1 }),
    () => clients.setConflated(all),
    () => clients.subscribe(all),
    () => clients.unsubscribe(all, 'a', 1),
    () => clients.list({ first: -1 }),
    () => clients.list({ slowest: 1 }),
    () => clients.selections(7),
    () => clients.selections('S-1', { after: -1 }),
    () => clients.selections('S-1', { first: 0.5 }),
    () => clients.list({ filter: null }),
    () => tidewire.connect(server.url, { WebSocket, properties: { Tier: 1 } }),
    () => tidewire.connect(server.url, { WebSocket, properties: 'Tier' }),
  ];
  for (const call of calls) await assert.rejects(call, TypeError);
  assert.deepEqual(server.received.map(({ op }) => op), ['connect']);
});

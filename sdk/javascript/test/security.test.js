// What sessions may do, against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, frame, startMockServer, string, varint } from './mock-server.js';

const FAST = { initialDelayMs: 1, delayMaxMs: 5 };

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

async function start(serverOptions = {}) {
  const server = await startMockServer(serverOptions);
  cleanups.push(() => server.stop());
  const session = await tidewire.connect(server.url, { WebSocket, reconnect: FAST, closeTimeoutMs: 200 });
  cleanups.push(() => session.close());
  return { server, session };
}

/** Answers the operation with the error, whoever asks. */
const deny = (op, code = 110, isMeant = () => true) => (message, connection) =>
  message.op === op && isMeant(message) && (connection.send(errorFrame(message.id, code, `expected the permission for ${op}`)), true);

const becomes = (session, wanted) => new Promise((resolve) => session.on('state', ({ state }) => state === wanted && resolve()));

/** What is the same of what roles permit and of principals: the methods, the operations, a statement that the mock server knows. */
const STORES = [
  { read: 'script', apply: 'apply', check: 'check', get: 'get_security', send: 'apply_security', statement: 'isolate path', expected: 'isolate' },
  {
    read: 'principals',
    apply: 'applyPrincipals',
    check: 'checkPrincipals',
    get: 'get_principals',
    send: 'apply_principals',
    statement: 'remove principal',
    expected: 'remove',
  },
];

for (const { read, apply, check, get, send, statement, expected } of STORES) {
  test(`${read}: the script is read in parts, by bytes`, async () => {
    const { server, session } = await start();
    assert.equal(await session.security[read](), '');
    const lines = ['é', 'ü/ü', '漢字', 'c', 'a/longer/path'].map((text) => `${statement} "${text}"\n`);
    await session.security[apply](lines.join(''));
    assert.equal(await session.security[read](), lines.join(''));
    const offsets = server.received.filter(({ op }) => op === get).slice(1).map(({ offset }) => offset);
    assert.ok(offsets.length > 2);
    const starts = lines.map((_, i) => Buffer.byteLength(lines.slice(0, i).join('')));
    assert.deepEqual(offsets.filter((offset) => !starts.includes(offset)), []);
  });

  test(`${read}: a part that says that there are more and has nothing is not taken for the end`, async () => {
    const answer = ({ op, id }, connection) => op === get && (connection.send(frame(0x82, varint(id), 1, string(''))), true);
    const { session } = await start({ answer });
    await assert.rejects(session.security[read](), tidewire.ProtocolError);
  });

  test(`${read}: a script is applied or only checked`, async () => {
    const { server, session } = await start();
    const script = `${statement} "a"\n`;
    assert.equal(await session.security[check](script), undefined);
    assert.equal(await session.security[read](), '');
    assert.equal(await session.security[apply](script), undefined);
    for (const { read: one } of STORES) assert.equal(await session.security[one](), one === read ? script : '');
    assert.deepEqual(server.received.filter(({ op }) => op === send).map((message) => message.check), [true, false]);
  });

  test(`${read}: a script that is wrong says where`, async () => {
    const { server, session } = await start();
    for (const method of [check, apply]) {
      await assert.rejects(session.security[method](`${statement} "a"\nfoo`), (error) => {
        assert.ok(error instanceof tidewire.InvalidScriptError);
        assert.deepEqual([error.code, error.message], [111, `line 2, column 1: expected ${expected}`]);
        return true;
      });
      for (const script of [undefined, 7, [`${statement} "a"`]]) await assert.rejects(session.security[method](script), TypeError);
    }
    assert.equal(await session.security[read](), '');
    assert.equal(server.received.filter(({ op }) => op === send).length, 2);
  });

  test(`${read}: who may not is told so`, async () => {
    const { session } = await start({ answer: (message, connection) => deny(get)(message, connection) || deny(send)(message, connection) });
    for (const method of [read, check, apply]) await assert.rejects(session.security[method]('foo'), tidewire.AccessDeniedError);
  });
}

test('roles of sessions change', async () => {
  const { server, session } = await start();
  const { clients } = session;
  assert.equal(await clients.changeRoles({ session: session.id }, { add: ['A', 'é'] }), 1);
  assert.deepEqual(server.last.roles, ['A', 'é']);
  assert.equal(await clients.changeRoles({ filter: 'all' }, { remove: ['A', 'none'], add: ['B'] }), 1);
  assert.deepEqual(server.last.roles, ['é', 'B']);
  assert.equal(await clients.changeRoles({ session: 'S-99' }, { remove: ['B'] }), 0);
  const sent = server.received.length;
  for (const roles of [undefined, null, 'A', { add: 'A' }, { remove: [7] }, { add: null }]) {
    await assert.rejects(async () => clients.changeRoles({ filter: 'all' }, roles), TypeError);
  }
  await assert.rejects(async () => clients.changeRoles('S-1', { add: ['A'] }), TypeError);
  assert.equal(server.received.length, sent);
});

test('what is not permitted is rejected with what is missing, and the session goes on', async () => {
  const { server, session } = await start({ answer: deny('set') });
  await assert.rejects(session.topics.set('a', 1, 'int64'), (error) => {
    assert.ok(error instanceof tidewire.AccessDeniedError && error instanceof tidewire.RequestError);
    assert.deepEqual([error.code, error.name, error.message], [110, 'AccessDeniedError', 'expected the permission for set']);
    return true;
  });
  server.answer = () => false;
  assert.deepEqual(await session.topics.addAndSet('a', 'int64', 1), { path: 'a', added: true });
});

test('a topic that may not be read any more ends with the reason, and may come back', async () => {
  const { server, session } = await start();
  server.put('a', 'json', '1');
  const events = [];
  let told = () => {};
  const note = (event) => (events.push(event), told());
  session.addStream('a', 'json', { value: (_, __, value, old) => note([value, old]), unsubscription: (_, __, reason) => note(reason) });
  await session.subscribe('a');
  const again = new Promise((resolve) => (told = () => events.length === 3 && resolve()));
  const { number } = server.topics.get('a');
  server.last.send(frame(0x98, varint(number), 5), frame(0x90, varint(number), string('a'), 1, 0), frame(0x91, varint(number), Buffer.from('2')));
  await again;
  assert.deepEqual(events, [[1, undefined], 'access_denied', [2, undefined]]);
});

// Trying again changes nothing.

test('a recoverable stream does not try again what is not permitted', async () => {
  const { server, session } = await start();
  const stream = session.topics.recoverableUpdateStream('a', { specification: 'string', retry: { intervalMs: 1, attempts: Infinity } });
  await stream.set('one');
  server.answer = deny('stream_set');
  await assert.rejects(stream.set('two'), tidewire.AccessDeniedError);
  assert.equal(stream.isRecoverable(), false);
  await assert.rejects(stream.recover(), tidewire.AccessDeniedError);
  assert.equal(server.received.filter(({ op }) => op === 'stream_open').length, 1);
});

test('a recovery ends where it is not permitted any more', async () => {
  const { server, session } = await start({ answer: deny('stream_open', 410) });
  const stream = session.topics.recoverableUpdateStream('a', { specification: 'string', retry: { intervalMs: 1, attempts: Infinity } });
  await assert.rejects(stream.set('one'), tidewire.StorageUnavailableError);
  server.answer = deny('stream_open');
  await assert.rejects(stream.recover(), tidewire.AccessDeniedError);
  assert.equal(stream.isRecoverable(), false);
  assert.equal(server.received.filter(({ op }) => op === 'stream_open').length, 2);
});

test('a session that may not connect any more is closed', async () => {
  const { server, session } = await start();
  server.answer = deny('connect');
  server.last.socket.terminate();
  const { status, error } = await session.closed;
  assert.equal(status, 'CLOSED_FAILED');
  assert.ok(error instanceof tidewire.AccessDeniedError);
  assert.equal(server.received.filter(({ op }) => op === 'connect').length, 2);
});

test('a selection that a new session may not make is told and dropped', async () => {
  const { server, session } = await start();
  server.put('a', 'json', '1');
  server.put('b', 'json', '2');
  const ended = [];
  session.addStream('?.*', 'json', { unsubscription: (path) => ended.push(path) });
  await session.subscribe('a');
  await session.subscribe('b');
  server.answer = deny('subscribe', 110, ({ selector }) => selector === 'a');
  const errors = [];
  session.on('error', (error) => errors.push(error.name));
  for (const told of [['AccessDeniedError'], ['AccessDeniedError']]) {
    const connected = becomes(session, 'connected');
    server.last.socket.terminate();
    await connected;
    assert.deepEqual([errors, ended], [told, ['a']]);
  }
});

for (const [kinds, title, expected] of [
  [['all_edits'], 'who may not see replaced edits is told of the latest ones that were missed', [1, 2, true]],
  [['all_edits', 'latest_edits'], 'who may see no edits is told of the events that were missed, and that others are', 'MissedEventsError'],
]) {
  test(title, async () => {
    const { server, session } = await start();
    const double = (value) => Buffer.from(new Float64Array([value]).buffer).swap64();
    await session.topics.addAndSet('s', { type: 'time_series', properties: { TIME_SERIES_EVENT_VALUE_TYPE: 'double' } }, 1);
    const told = [];
    let isAll = () => {};
    const note = (event) => (told.push(event), isAll());
    session.addTimeSeriesStream('s', 'double', {
      value: (_, __, { sequence, value, isEdit }) => note([sequence, value, isEdit]),
      error: (error) => note(error.name),
    });
    await session.subscribe('s');
    server.answer = deny('query', 110, ({ kind }) => kinds.includes(kind));
    const all = new Promise((resolve) => (isAll = () => told.length === 4 && resolve()));
    await server.stop();
    const edit = { sequence: 1, timestamp: 1_001, original: 0, author: 'mock', value: double(2) };
    server.topics.get('s').events.push(edit);
    for (const value of [3, 4]) server.put('s', 'time_series', double(value));
    await server.restart();
    await all;
    assert.deepEqual(told, [[0, 1, false], expected, [2, 3, false], [3, 4, false]]);
  });
}

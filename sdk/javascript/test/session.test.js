// Sessions against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { deflateRawSync } from 'node:zlib';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, frame, startMockServer, varint } from './mock-server.js';

const { connect, TopicType } = tidewire;
const FAST = { initialDelayMs: 1, delayMaxMs: 5 };

/** What to end after a test, newest first. */
const cleanups = [];

afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()();
});

async function start(serverOptions, sessionOptions) {
  const server = await startMockServer(serverOptions);
  cleanups.push(() => server.stop());
  return { server, session: await open(server, sessionOptions) };
}

async function open(server, options = {}) {
  const session = await connect(server.url, { WebSocket, reconnect: FAST, closeTimeoutMs: 200, ...options });
  cleanups.push(() => session.close());
  return session;
}

/** A stream's events as short texts, and a way to wait for one. */
function record(session, selector, type) {
  const events = [];
  const waiting = [];
  const note = (event) => {
    events.push(event);
    for (const check of waiting.splice(0)) check();
  };
  const callbacks = {
    subscription: (path, { type: topicType }) => note(`+${path} ${topicType}`),
    value: (path, _, value, old) => note(`${path}=${text(value)}${old === undefined ? '' : ` was ${text(old)}`}`),
    gap: (path) => note(`~${path}`),
    unsubscription: (path, _, reason) => note(`-${path} ${reason}`),
    close: () => note('close'),
    error: (error) => note(`! ${error.message}`),
  };
  const stream = selector === undefined ? session.addFallbackStream(type, callbacks) : session.addStream(selector, type, callbacks);
  const until = async (event) => {
    while (!events.includes(event)) await new Promise((resolve) => waiting.push(resolve));
  };
  return { events, stream, until };
}

const text = (value) => (typeof value === 'bigint' ? `${value}n` : value instanceof Uint8Array ? `[${value}]` : JSON.stringify(value));

/** Settles when the session is in that state. */
function becomes(session, state) {
  return new Promise((resolve) => {
    const stop = session.on('state', (event) => {
      if (event.state !== state) return;
      stop();
      resolve(event);
    });
  });
}

/** The turn of the event loop ends: what a stream is told of the topics that are there has been told. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a subscriber sees the subscription, the value, updates, and the end', async () => {
  const { server, session } = await start();
  server.put('a/b', 'json', '{"x":1}');
  server.put('c', 'json', '0');
  const { events } = record(session, '?a//', TopicType.JSON);
  await session.subscribe('?a//');
  await session.topics.set('a/b', { x: 2 });
  await session.topics.add('a/c', TopicType.JSON);
  await session.topics.remove('a/b');
  await session.unsubscribe('?a//');
  assert.deepEqual(events, ['+a/b json', 'a/b={"x":1}', 'a/b={"x":2} was {"x":1}', '+a/c json', '-a/b removed', '-a/c requested']);
});

test('every type goes there and back', async () => {
  const { session } = await start();
  const values = [
    ['json', { a: [1, 'é', null] }],
    ['json', null],
    ['string', ''],
    ['string', '\ufeffhéllo 😀'],
    ['int64', 5],
    ['int64', Number.MIN_SAFE_INTEGER],
    ['int64', 9223372036854775807n],
    ['double', -0.5],
    ['double', NaN],
    ['double', -0],
    ['binary', new Uint8Array([0, 255, 128])],
  ];
  for (const [index, [type, value]] of values.entries()) {
    assert.deepEqual(await session.topics.addAndSet(`t/${index}`, type, value), { path: `t/${index}`, added: true });
    const { results } = await session.topics.fetch(`t/${index}`);
    assert.deepEqual(results, [{ path: `t/${index}`, type, value }]);
  }
});

test('a stream gets what can be read as its type', async () => {
  const { server, session } = await start();
  server.put('t/json', 'json', '[1]');
  server.put('t/string', 'string', 'x');
  server.put('t/int64', 'int64', [0, 0, 0, 0, 0, 0, 0, 7]);
  server.put('t/double', 'double', [0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
  server.put('t/binary', 'binary', [1, 2]);
  const json = record(session, '?t/', TopicType.JSON);
  const string = record(session, '?t/', TopicType.STRING);
  const fallback = record(session, undefined, TopicType.BINARY);
  await session.subscribe('?t//');
  assert.deepEqual(json.events.filter((event) => event[0] !== '+'), ['t/json=[1]', 't/string="x"', 't/int64=7', 't/double=1.5']);
  assert.deepEqual(string.events, ['+t/string string', 't/string="x"']);
  assert.deepEqual(fallback.events, ['+t/binary binary', 't/binary=[1,2]']);
});

test('a stream added later is told of the topics that are there, and takes them from the fallback stream', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const fallback = record(session, undefined, TopicType.JSON);
  await session.subscribe('a');
  const late = record(session, 'a', TopicType.STRING);
  assert.deepEqual(late.events, []);
  await turn();
  assert.deepEqual(late.events, ['+a string', 'a="x"']);
  await session.topics.set('a', 'y');
  late.stream.close();
  assert.deepEqual(late.events.slice(2), ['a="y" was "x"', 'close']);
  assert.deepEqual(fallback.events, ['+a string', 'a="x"', '-a stream_change', '+a string', 'a="y"']);
});

test('a callback that throws stops nobody', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const errors = [];
  session.addStream('a', 'string', {
    value: () => {
      throw new Error('mine');
    },
    error: (error) => errors.push(error.message),
  });
  const other = record(session, 'a', 'string');
  await session.subscribe('a');
  assert.deepEqual(errors, ['mine']);
  assert.deepEqual(other.events, ['+a string', 'a="x"']);
});

test('a stream can be iterated, and gives a slow reader the newest value', async () => {
  const { server, session } = await start();
  const stream = session.addStream('?a/', TopicType.INT64);
  const iterator = stream[Symbol.asyncIterator]();
  server.put('a/b', 'int64', Buffer.alloc(8, 0));
  await session.subscribe('?a/');
  for (const value of [1, 2, 3]) await session.topics.set('a/b', value);
  const { value: event } = await iterator.next();
  assert.deepEqual([event.path, event.value, event.oldValue], ['a/b', 3, undefined]);
  const waiting = iterator.next();
  await session.topics.set('a/b', 4);
  assert.equal((await waiting).value.oldValue, 3);
  const last = iterator.next();
  await session.close();
  assert.equal((await last).done, true);
});

test('deltas of both forms make the next value', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'the quick brown fox');
  const { events, until } = record(session, 'a', TopicType.STRING);
  await session.subscribe('a');
  const { number } = server.topics.get('a');
  const deflated = deflateRawSync('the quick green fox', { dictionary: Buffer.from('the quick brown fox') });
  server.last.send(frame(0x92, varint(number), deflated), frame(0x93, varint(number), [4 << 1, 0x50, ...Buffer.from('QUICK')]));
  await until('a="the QUICK green fox" was "the quick green fox"');
  assert.equal(events.length, 4);
  assert.equal(server.received[0].capabilities, 7);
});

test('behind a gap the whole value is waited for', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const { events, until } = record(session, 'a', TopicType.STRING);
  await session.subscribe('a');
  const number = varint(server.topics.get('a').number);
  server.last.send(frame(0x9a, number));
  await until('~a');
  const late = record(session, 'a', TopicType.JSON);
  await turn();
  server.last.send(frame(0x91, number, Buffer.from('z')));
  await until('a="z"');
  assert.deepEqual(events, ['+a string', 'a="x"', '~a', 'a="z"']);
  assert.deepEqual(late.events, ['+a string', 'a="z"']);
  const lost = becomes(session, 'recovering');
  server.last.send(frame(0x9a, number), frame(0x93, number, [1 << 1]));
  assert.equal((await lost).code, 4100);
});

test('a delta that does not fit makes the connection anew', async () => {
  const { server, session } = await start();
  server.put('a', 'string', 'x');
  const { events } = record(session, 'a', TopicType.STRING);
  await session.subscribe('a');
  const lost = becomes(session, 'recovering');
  server.last.send(frame(0x92, varint(server.topics.get('a').number), [0xff]));
  assert.equal((await lost).code, 4100);
  await becomes(session, 'connected');
  await session.topics.set('a', 'y');
  assert.deepEqual(events.slice(2), ['a="y" was "x"']);
});

test('answers to refused requests are errors of their class', async () => {
  const { session } = await start();
  await assert.rejects(session.topics.set('a', 'x', 'string'), tidewire.NoSuchTopicError);
  await session.topics.add('a', 'json');
  await assert.rejects(session.topics.add('a', 'string'), (error) => error instanceof tidewire.TopicExistsError && error.code === 203);
  await assert.rejects(session.topics.set('a', 'x', 'string'), tidewire.IncompatibleTypeError);
  await assert.rejects(session.subscribe('?('), (error) => error instanceof tidewire.InvalidSelectorError && error.position === 1);
});

test('wrong arguments never reach the server', async () => {
  const { server, session } = await start();
  const { topics } = session;
  const before = server.received.length;
  const types = [
    () => topics.add(5, 'json'),
    () => topics.add('a', 'jsonn'),
    () => topics.add('a', { type: 'json', properties: { X: 1 } }),
    () => topics.set('a', 5),
    () => topics.set('a', 'text'),
    () => topics.set('a', undefined, 'json'),
    () => topics.set('a', () => {}, 'json'),
    () => topics.set('a', '5', 'int64'),
    () => topics.set('a', 5, 'string'),
    () => topics.set('a', '\ud800', 'string'),
    () => topics.set('a', [1], 'binary'),
    () => topics.fetch('a', { first: -1 }),
    () => topics.fetch('a', { after: 1 }),
    () => topics.remove(),
    () => session.subscribe(undefined),
    async () => session.addStream('a', 'text'),
    async () => session.addStream('a', 'json', { value: 5 }),
    async () => session.on('nothing', () => {}),
    () => connect('tcp://x'),
    () => connect('ws://x', { reconnect: 5 }),
    () => connect('ws://x', { requestTimeoutMs: -1 }),
  ];
  for (const attempt of types) await assert.rejects(attempt, TypeError, String(attempt));
  await assert.rejects(topics.set('a', 1.5, 'int64'), RangeError);
  await assert.rejects(topics.set('a', 2n ** 63n, 'int64'), RangeError);
  await assert.rejects(topics.add('é//a', 'json'), (error) => error instanceof tidewire.InvalidPathError && error.position === 3);
  await assert.rejects(topics.addAndSet('a', 'string', 'x'.repeat(40_000)), tidewire.ValueTooLargeError);
  await assert.rejects(topics.remove('x'.repeat(70_000)), tidewire.ValueTooLargeError);
  assert.equal(server.received.length, before);
});

test('the type may be left out where it is known', async () => {
  const { session } = await start();
  await session.topics.add('j', 'json');
  await session.topics.set('j', 'text');
  await session.topics.add('d', 'double');
  await session.topics.set('d', 5);
  await session.topics.add('b', 'binary');
  await session.topics.set('b', new Uint8Array([1]));
  const { results } = await session.topics.fetch('?.//');
  assert.deepEqual(results.map(({ value }) => value), [new Uint8Array([1]), 5, 'text']);
});

test('pages follow each other', async () => {
  const { server, session } = await start({ pageMax: 3 });
  for (let index = 0; index < 8; index += 1) server.put(`p/${index}`, 'json', index === 7 ? undefined : String(index));
  assert.deepEqual(await session.topics.fetch('?p/', { after: 'p/4', first: 2, withValues: false }), {
    results: [{ path: 'p/5', type: 'json' }, { path: 'p/6', type: 'json' }],
    hasMore: true,
  });
  const paths = [];
  for await (const { path, value } of session.topics.fetchAll('?p/')) paths.push([path, value]);
  assert.equal(paths.length, 8);
  assert.deepEqual(paths[7], ['p/7', undefined]);
});

test('requests of one turn go out together and in order, split where the server wants', async () => {
  const { server, session } = await start({ messageBytesMax: 1000 });
  let messages = 0;
  server.last.socket.on('message', (bytes) => {
    messages += 1;
    assert.ok(bytes.length <= 1000);
  });
  await session.topics.add('a', 'string');
  messages = 0;
  await Promise.all(Array.from({ length: 100 }, (_, index) => session.topics.set('a', `${index}`.padStart(40, '0'))));
  assert.ok(messages < 10, `${messages} messages`);
  assert.equal(server.topics.get('a').value.toString(), '99'.padStart(40, '0'));
});

test('a lost connection is made anew, and streams see only what changed', async () => {
  const { server, session } = await start();
  for (const name of ['same', 'changed', 'gone', 'retyped', 'emptied']) server.put(`a/${name}`, 'string', 'old');
  const { events } = record(session, '?a/', TopicType.JSON);
  await session.subscribe('?a//');
  await session.unsubscribe('a/none');
  const before = events.length;
  const states = [];
  session.on('state', ({ state, previous }) => states.push(`${previous} ${state}`));
  await server.stop();
  server.topics.delete('a/gone');
  server.topics.delete('a/retyped');
  server.put('a/retyped', 'json', '1');
  server.topics.get('a/emptied').value = undefined;
  server.topics.get('a/changed').value = Buffer.from('new');
  server.put('a/more', 'string', 'x');
  const connected = becomes(session, 'connected');
  await server.restart();
  await connected;
  assert.deepEqual(events.slice(before).sort(), [
    '+a/emptied string',
    '+a/more string',
    '+a/retyped json',
    '-a/emptied removed',
    '-a/gone removed',
    '-a/retyped removed',
    'a/changed="new" was "old"',
    'a/more="x"',
    'a/retyped=1',
  ]);
  assert.deepEqual(states, ['connected recovering', 'recovering connected']);
  await session.topics.set('a/same', 'newer', 'string');
  assert.equal(events.at(-1), 'a/same="newer" was "old"');
});

test('selections are made again in their order', async () => {
  const { server, session } = await start();
  await Promise.all([session.subscribe('?a//'), session.unsubscribe('?a/b//'), session.subscribe('a/b/c'), session.subscribe('x')]);
  await session.unsubscribe('x');
  const connected = becomes(session, 'connected');
  server.received.length = 0;
  server.last.socket.terminate();
  await connected;
  const made = server.received.filter(({ selector }) => selector !== undefined).map(({ op, selector }) => `${op} ${selector}`);
  assert.deepEqual(made, ['subscribe ?a//', 'unsubscribe ?a/b//', 'subscribe a/b/c']);
});

test('a selection that the server refuses later is told and dropped', async () => {
  const { server, session } = await start();
  await session.subscribe('a');
  await session.subscribe('b');
  server.answer = ({ op, id, selector }, connection) => {
    if (op !== 'subscribe' || selector !== 'a') return false;
    connection.send(errorFrame(id, 300, 'too many'));
    return true;
  };
  const errors = [];
  session.on('error', (error) => errors.push(error));
  const connected = becomes(session, 'connected');
  server.last.socket.terminate();
  await connected;
  assert.ok(errors[0] instanceof tidewire.SelectionLimitError);
});

test('a server that is overloaded is tried again', async () => {
  const { server, session } = await start();
  await session.subscribe('a');
  let refusals = 2;
  server.answer = ({ op, id }, connection) => {
    if (op !== 'subscribe' || refusals === 0) return false;
    refusals -= 1;
    connection.send(errorFrame(id, 400, 'not now'));
    return true;
  };
  const connected = becomes(session, 'connected');
  server.last.socket.terminate();
  await connected;
  assert.equal(refusals, 0);
});

test('requests under way at the loss are rejected, later ones until the connection is back are not sent', async () => {
  const { server, session } = await start();
  server.answer = ({ op }) => op === 'add';
  const under = session.topics.add('a', 'json');
  const lost = becomes(session, 'recovering');
  await turn();
  await server.stop();
  await assert.rejects(under, (error) => error instanceof tidewire.ConnectionError && error.sent === true);
  await lost;
  await assert.rejects(session.topics.add('b', 'json'), (error) => error instanceof tidewire.ConnectionError && error.sent === false);
});

test('a request without an answer times out, and the session goes on', async () => {
  const { server, session } = await start({}, { requestTimeoutMs: 20 });
  server.answer = ({ op }) => op === 'add';
  await assert.rejects(session.topics.add('a', 'json'), tidewire.TimeoutError);
  assert.deepEqual(await session.topics.remove('a'), { removedCount: 0 });
});

test('a session closes with 1000 and tells its streams and listeners', async () => {
  const { session } = await start();
  const { events, stream } = record(session, 'a', 'json');
  await session.close();
  const { state, code } = await session.closed;
  assert.deepEqual([state, code, session.state], ['closed', 1000, 'closed']);
  assert.deepEqual(events, ['close']);
  assert.equal(stream.closed, true);
  await assert.rejects(session.subscribe('a'), tidewire.ConnectionError);
  assert.throws(() => session.addStream('a', 'json'), tidewire.ConnectionError);
  await session.close();
});

test('a server that does not answer CLOSE is left', async () => {
  const { server, session } = await start({}, { closeTimeoutMs: 10 });
  server.answer = ({ op }) => op === 'close';
  await session.close();
  assert.equal(session.state, 'closed');
});

test('a session closes while it recovers', async () => {
  const { server, session } = await start();
  const lost = becomes(session, 'recovering');
  await server.stop();
  await lost;
  await session.close();
  assert.equal((await session.closed).code, 1000);
});

test('attempts are bounded if one wants, and reconnecting can be off', async () => {
  for (const [reconnect, states] of [
    [{ ...FAST, attemptsMax: 3 }, ['connecting', 'connected', 'recovering', 'closed']],
    [false, ['connecting', 'connected', 'closed']],
  ]) {
    const seen = [];
    const { server, session } = await start({}, { reconnect, onState: ({ state }) => seen.push(state) });
    await server.stop();
    await session.closed;
    assert.deepEqual(seen, states);
  }
});

test('the close code and reason of the server are passed on', async () => {
  const { server, session } = await start({}, { reconnect: false });
  server.last.socket.close(4104, 'too slow');
  const { code, reason } = await session.closed;
  assert.deepEqual([code, reason], [4104, 'too slow']);
});

test('no common version is final', async () => {
  const { server, session } = await start();
  server.answer = ({ op, id }, connection) => {
    if (op !== 'connect') return false;
    connection.send(errorFrame(id, 104, 'only version 9'));
    connection.socket.close(4101);
    return true;
  };
  const [first] = server.connections;
  await assert.rejects(open(server), tidewire.UnsupportedVersionError);
  first.socket.terminate();
  assert.equal((await session.closed).code, 4101);
});

test('connecting fails with a typed error', async () => {
  const server = await startMockServer({ answer: ({ op }) => op === 'connect' });
  cleanups.push(() => server.stop());
  await assert.rejects(open(server, { connectTimeoutMs: 20 }), tidewire.TimeoutError);
  await assert.rejects(open(server, { signal: AbortSignal.abort() }), tidewire.ConnectionError);
  await assert.rejects(open({ url: `${server.url}/elsewhere` }), tidewire.ConnectionError);
  const { url } = server;
  await server.stop();
  await assert.rejects(open({ url }), (error) => error instanceof tidewire.ConnectionError && error.code === 1006);
  cleanups.pop();
});

test('a connection that is silent for too long is dead', async () => {
  const { server, session } = await start({ keepAliveMs: 20, answer: ({ op }) => op === 'ping' });
  const { code } = await becomes(session, 'recovering');
  assert.equal(code, 4103);
  assert.ok(server.received.some(({ op }) => op === 'ping'));
});

test('pings are answered, and sent where there is nothing else', async () => {
  const { server, session } = await start({ keepAliveMs: 20 });
  const received = (op) => new Promise((resolve) => (server.answer = (message) => message.op === op && (resolve(), false)));
  server.last.send(frame(0x02));
  await received('pong');
  await received('ping');
  assert.equal(session.state, 'connected');
});

test('text, and frames that break the protocol, end the connection', async () => {
  const { server, session } = await start();
  for (const message of ['text', Buffer.from([0x91, 9, 1]), frame(0x98, [1])]) {
    const lost = becomes(session, 'recovering');
    const connected = becomes(session, 'connected');
    server.last.socket.send(message);
    assert.equal((await lost).code, 4100);
    await connected;
  }
});

test('what a later version sends is skipped', async () => {
  const { server, session } = await start();
  const { events } = record(session, 'a', 'json');
  await session.subscribe('a');
  server.last.send(
    frame(0xf0, [1, 2, 3]),
    frame(0x90, varint(900), varint(1), Buffer.from('a'), [9, 0]),
    frame(0x91, varint(900), [1]),
    frame(0x82, varint(12345)),
    frame(0x98, varint(900), [1]),
  );
  assert.deepEqual(await session.topics.remove('a'), { removedCount: 0 });
  assert.deepEqual(events, []);
});

test('a session is told whether what its server shows may be old, and a new one anew', async () => {
  const { server, session } = await start();
  const told = [];
  const end = session.on('staleness', ({ isStale }) => told.push([isStale, session.isStale]));
  assert.equal(session.isStale, false);
  server.last.send(frame(0x87, [1]), frame(0x87, [1]));
  await session.topics.remove('a');
  assert.deepEqual(told, [[true, true]]);
  const connected = new Promise((resolve) => session.on('state', ({ state }) => state === 'connected' && resolve()));
  server.last.socket.close(1011, 'lost');
  await connected;
  assert.deepEqual(told, [[true, true], [false, false]]);
  end();
  server.last.send(frame(0x87, [1]));
  await session.topics.remove('a');
  assert.deepEqual([told.length, session.isStale], [2, true]);
});

test('an address may leave out the path and name the scheme of a page', async () => {
  const { server } = await start();
  for (const url of [`http://127.0.0.1:${server.port}/`, new URL(`${server.url}/tidewire?x=1`)]) await open({ url });
});

test('a client that is told to come later comes when it was told, as often as it is told', async () => {
  let told = 0;
  const times = [];
  const later = (message, connection) => {
    if (message.op !== 'connect') return false;
    times.push(performance.now());
    if (told === 2) return false;
    told += 1;
    connection.socket.send(frame(0x86, varint(message.id), varint(30)));
    connection.socket.close(4107, 'come again in 30 ms');
    return true;
  };
  const server = await startMockServer({ answer: later });
  const states = [];
  const session = await connect(server.url, { WebSocket, onState: ({ state }) => states.push(state) });
  assert.equal(times.length, 3);
  assert.ok(times[1] - times[0] >= 29 && times[2] - times[1] >= 29, String(times));
  assert.deepEqual(states, ['connecting', 'connected']);
  await session.close();
  told = 0;
  const error = await connect(server.url, { WebSocket, reconnect: false }).catch((refused) => refused);
  assert.deepEqual([error.constructor.name, error.code, error.retryAfterMs, told], ['ComeLaterError', 4107, 30, 1]);
  told = 0;
  const given = new AbortController();
  const waiting = connect(server.url, { WebSocket, signal: given.signal });
  while (told < 1) await new Promise((resolve) => setImmediate(resolve));
  given.abort();
  await assert.rejects(waiting, { name: 'ConnectionError' });
  await server.stop();
});

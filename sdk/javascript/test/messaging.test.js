// Requests between clients, against a mock server in this process.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import * as tidewire from '../tidewire.js';
import { errorFrame, frame, startMockServer, string, varint } from './mock-server.js';

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
    const reconnect = { initialDelayMs: 1, delayMaxMs: 5 };
    const session = await tidewire.connect(server.url, { WebSocket, reconnect, closeTimeoutMs: 200, ...options });
    cleanups.push(() => session.close());
    sessions.push(session);
  }
  return [server, ...sessions];
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function until(condition) {
  while (!condition()) await turn();
}

const ops = (server, op) => server.received.filter((message) => message.op === op);

/** A promise, and what settles it. */
function promised() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

const RESUME = { resume: { recoveryBytesMax: 1_000 } };

test('a request is answered by who handles the nearest branch', async () => {
  const [, asker, far, near] = await start({}, { properties: { Tier: 'gold', Desk: '7' } }, {}, {});
  await far.messaging.addRequestHandler('orders', () => 'far');
  const requests = [];
  const handle = async (request) => {
    requests.push(request);
    return { accepted: true };
  };
  const handler = await near.messaging.addRequestHandler('orders/eu', handle, { sessionProperties: ['Tier'] });
  assert.deepEqual([handler.path, handler.closed], ['orders/eu', false]);
  assert.deepEqual(await asker.messaging.sendRequest('orders/eu/7', { buy: 100 }), { accepted: true });
  assert.equal(await asker.messaging.sendRequest('orders/us', {}), 'far');
  assert.deepEqual(requests, [
    { path: 'orders/eu/7', value: { buy: 100 }, type: 'json', sessionId: asker.id, sessionProperties: { Tier: 'gold' }, isOneWay: false },
  ]);
});

test('values of every type go there and back, and null', async () => {
  const [server, session] = await start({}, {});
  const types = [];
  await session.messaging.addRequestHandler('echo', ({ value, type }) => (types.push(type), value));
  const check = async (value, type, expected = value) => {
    await session.messaging.addRequestHandler(`echo/${type}`, ({ value: given }) => given, { type });
    assert.deepEqual(await session.messaging.sendRequest(`echo/${type}`, value, { type, responseType: type }), expected);
  };
  await check({ a: [1, null] }, 'json');
  await check(null, 'json');
  await check('é', 'string');
  await check(null, 'string');
  await check(7, 'int64');
  await check(2n ** 62n, 'int64');
  await check(null, 'int64');
  await check(1.5, 'double');
  await check(null, 'double');
  await check(new Uint8Array([0, 255]), 'binary');
  // Without a type it is what the value can only be, else JSON.
  for (const value of ['text', 5, true, { a: 1 }, 2n ** 60n, new Uint8Array([1])]) assert.deepEqual(await session.messaging.sendRequest('echo', value), value);
  assert.deepEqual(types, ['json', 'json', 'json', 'json', 'int64', 'binary']);
  assert.deepEqual(ops(server, 'request').filter(({ value }) => value === null).map(({ type }) => type), ['string', 'int64', 'double']);
});

test('a handler that returns nothing answers with null', async () => {
  const [, session] = await start({}, {});
  await session.messaging.addRequestHandler('a', () => {});
  assert.equal(await session.messaging.sendRequest('a', 1), null);
});

test('what a handler throws rejects the request with its message', async () => {
  const [, session] = await start({}, {});
  const check = async (path, handle, message) => {
    await session.messaging.addRequestHandler(path, handle);
    await assert.rejects(session.messaging.sendRequest(path, 1), (error) => {
      assert.ok(error instanceof tidewire.RejectedError, error);
      assert.deepEqual([error.code, error.message], [315, message]);
      return true;
    });
  };
  await check('a', () => Promise.reject(new Error('the market is closed')), 'the market is closed');
  await check('b', () => { throw 'a text'; }, 'a text');
  await check('c', () => () => {}, 'expected a JSON value, found a function');
  await check('d', () => { throw new Error('x'.repeat(5_000)); }, 'x'.repeat(1_024));
});

test('nobody handles a path, or not any more', async () => {
  const [, asker, other] = await start({}, {}, {});
  await assert.rejects(asker.messaging.sendRequest('a/b', 1), tidewire.NoHandlerError);
  const handler = await other.messaging.addRequestHandler('a', () => 1);
  assert.equal(await asker.messaging.sendRequest('a/b', 1), 1);
  await handler.close();
  await handler.close();
  assert.equal(handler.closed, true);
  await assert.rejects(asker.messaging.sendRequest('a/b', 1), tidewire.NoHandlerError);
});

test('a closed handler answers what it was given before', async () => {
  const [, session] = await start({}, {});
  const answer = promised();
  const handler = await session.messaging.addRequestHandler('a', () => answer.promise);
  const asked = session.messaging.sendRequest('a', 1);
  await handler.close();
  answer.resolve('late');
  assert.equal(await asked, 'late');
});

test('the session of a handler ends before it answers', async () => {
  const [, asker, other] = await start({}, {}, {});
  let isAsked = false;
  await other.messaging.addRequestHandler('a', () => ((isAsked = true), new Promise(() => {})));
  const asked = asker.messaging.sendRequest('a', 1);
  await Promise.all([assert.rejects(asked, tidewire.HandlerGoneError), until(() => isAsked).then(() => other.close())]);
});

test('one session is asked by its id', async () => {
  const [server, asker, other] = await start({}, {}, {});
  await other.messaging.addRequestHandler('a', ({ value }) => value + 1);
  assert.equal(await asker.messaging.sendRequestToSession(other.id, 'a/b', 1, { timeoutMs: 500 }), 2);
  assert.deepEqual(ops(server, 'request_session').map(({ session, timeout_ms }) => [session, timeout_ms]), [[other.id, 500]]);
  await assert.rejects(asker.messaging.sendRequestToSession('S-99', 'a', 1), tidewire.NoSuchSessionError);
});

/** What comes of a request to many. */
function record() {
  const heard = [];
  return {
    heard,
    onResponse: (sessionId, value) => heard.push([sessionId, value]),
    onError: (sessionId, error) => heard.push([sessionId, error.name]),
  };
}

test('every session that a filter means is heard of', async () => {
  const tier = (Tier) => ({ properties: { Tier } });
  const [, asker, one, two, three, four] = await start({}, {}, tier('gold'), tier('gold'), tier('gold'), tier('tin'));
  await one.messaging.addRequestHandler('a', () => 'one');
  await two.messaging.addRequestHandler('a', () => { throw new Error('no'); });
  await four.messaging.addRequestHandler('a', () => 'four');
  const { heard, ...callbacks } = record();
  assert.equal(await asker.messaging.sendRequestToFilter("Tier is 'gold'", 'a', 1, callbacks), 3);
  await until(() => heard.length === 3);
  assert.deepEqual(heard.sort(), [[one.id, 'one'], [two.id, 'RejectedError'], [three.id, 'NoHandlerError']]);
  assert.equal(await asker.messaging.sendRequestToFilter("Tier is 'none'", 'a', 1, callbacks), 0);
  await assert.rejects(asker.messaging.sendRequestToFilter('Tier', 'a', 1), (error) => error instanceof tidewire.InvalidFilterError && error.position === 3);
});

test('of a request to many the time is over for the rest', async () => {
  const [server, asker, other] = await start({}, {}, {});
  await asker.messaging.addRequestHandler('a', () => 'own');
  await other.messaging.addRequestHandler('a', () => new Promise(() => {}));
  const { heard, ...callbacks } = record();
  assert.equal(await asker.messaging.sendRequestToFilter('all', 'a', 1, { ...callbacks, timeoutMs: 700 }), 2);
  await until(() => heard.length === 1);
  const { id, timeout_ms: timeoutMs } = ops(server, 'request_filter')[0];
  assert.equal(timeoutMs, 700);
  const asking = server.connections.find((connection) => connection.id === asker.id);
  server.clients.responseError(asking, id, '', 311, '1 responses did not come in time');
  // It is over: whatever else came would be of nobody's request.
  server.clients.responseError(asking, id, other.id, 315, 'late');
  await until(() => heard.length === 2);
  await asker.topics.remove('a');
  assert.deepEqual(heard, [[asker.id, 'own'], [undefined, 'RequestTimeoutError']]);
});

test('a response has to be of the type that was asked for', async () => {
  const [, session] = await start({}, {});
  await session.messaging.addRequestHandler('text', () => 'x', { type: 'string' });
  assert.equal(await session.messaging.sendRequest('text', 1, { responseType: 'json' }), 'x');
  await assert.rejects(session.messaging.sendRequest('text', 1, { responseType: 'int64' }), tidewire.IncompatibleTypeError);
  const { heard, ...callbacks } = record();
  await session.messaging.sendRequestToFilter('all', 'text', 1, { ...callbacks, responseType: 'binary' });
  await until(() => heard.length === 1);
  assert.deepEqual(heard, [[session.id, 'IncompatibleTypeError']]);
});

test('a value sent one way is answered by nobody', async () => {
  const [server, asker, other] = await start({}, {}, {});
  const requests = [];
  await other.messaging.addRequestHandler('a', ({ value, isOneWay }) => requests.push([value, isOneWay]));
  assert.equal(await asker.messaging.send('a/b', { x: 1 }), undefined);
  await asker.messaging.send('a/b', 7, { type: 'int64' });
  await until(() => requests.length === 2);
  await other.topics.remove('a');
  assert.deepEqual(requests, [[{ x: 1 }, true], [7, true]]);
  assert.deepEqual([ops(server, 'respond'), ops(server, 'request').map(({ id }) => id)], [[], [0, 0]]);
  // What is refused is an error of the session.
  const refused = new Promise((resolve) => asker.on('error', resolve));
  await asker.messaging.send('b', 1);
  assert.ok((await refused) instanceof tidewire.NoHandlerError);
});

test('an answer that comes too late is nothing to be told of', async () => {
  const [server, session] = await start({}, {});
  const errors = [];
  session.on('error', (error) => errors.push(error));
  await session.messaging.addRequestHandler('a', () => 1);
  server.last.send(frame(0xb0, varint(1), varint(99), string('S-9'), string('a'), varint(0), 1, varint(2), Buffer.from('1')));
  await until(() => ops(server, 'respond').length === 1);
  await session.topics.remove('a');
  assert.deepEqual(errors, []);
});

test('a request waits as long as its handler may take, and longer only for a server that is silent', async () => {
  const [server, session] = await start({ answer: ({ op }) => op === 'request' }, { requestTimeoutMs: 30 });
  const ends = [];
  const end = ({ message }) => ends.push(message);
  await Promise.all([session.messaging.sendRequest('a', 1, { timeoutMs: 100 }).catch(end), session.messaging.sendRequest('a', 1).catch(end)]);
  assert.deepEqual(ends, ['no answer to request within 60 ms', 'no answer to request within 130 ms']);
  assert.deepEqual(ops(server, 'request').map(({ timeout_ms: timeoutMs }) => timeoutMs), [100, 30]);
});

test('without a time-out of the session the server decides', async () => {
  const [server, session] = await start({}, { requestTimeoutMs: 0 });
  await session.messaging.addRequestHandler('a', () => 1);
  await session.messaging.sendRequest('a', 1);
  assert.equal(ops(server, 'request')[0].timeout_ms, undefined);
});

test('requests and handlers go on over a lost connection', async () => {
  const [server, asker, other] = await start(RESUME, {}, {});
  const answer = promised();
  let isAsked = false;
  await other.messaging.addRequestHandler('a', () => ((isAsked = true), answer.promise));
  const asked = asker.messaging.sendRequest('a', 1);
  await until(() => isAsked);
  const resumed = Promise.all([asker, other].map((session) => new Promise((resolve) => session.on('state', ({ resumed: goesOn }) => goesOn && resolve()))));
  for (const connection of server.connections) server.cut(connection);
  await until(() => asker.state === 'recovering' && other.state === 'recovering');
  answer.resolve('still there');
  await asker.messaging.send('b', 'waits');
  assert.equal(await asked, 'still there');
  await resumed;
  assert.equal(ops(server, 'handle_requests').length, 1);
  assert.deepEqual(server.handled.filter(({ op }) => op === 'request').map(({ path }) => path), ['a', 'b']);
});

test('in a new session handlers are registered again, and requests of the old one are over', async () => {
  const [server, asker, other] = await start(RESUME, {}, {});
  const answers = [];
  const handler = await other.messaging.addRequestHandler('a', ({ value }) => (value === 'soon' ? 'new' : new Promise((resolve) => answers.push(resolve))));
  const closed = await other.messaging.addRequestHandler('b', () => 1);
  await closed.close();
  const { heard, ...callbacks } = record();
  const asked = asker.messaging.sendRequest('a', 'late');
  assert.equal(await asker.messaging.sendRequestToFilter('all', 'a', 'late', callbacks), 2);
  await until(() => answers.length === 2 && heard.length === 1);
  const isNew = (session) => new Promise((resolve) => session.on('state', ({ resumed }) => resumed === false && resolve()));
  const renewed = Promise.all([isNew(asker), isNew(other)]);
  server.forgetSessions();
  await assert.rejects(asked, tidewire.OutcomeUnknownError);
  // These numbers mean other requests now.
  for (const resolve of answers) resolve('old');
  await renewed;
  assert.deepEqual(heard.at(-1), [undefined, 'OutcomeUnknownError']);
  assert.deepEqual(ops(server, 'handle_requests').map(({ path }) => path), ['a', 'b', 'a']);
  assert.equal(await asker.messaging.sendRequest('a/x', 'soon'), 'new');
  assert.deepEqual(ops(server, 'respond').length, 1);
  assert.equal(handler.closed, false);
});

test('a handler that is refused when it is registered again is closed, and told of', async () => {
  const [server, session] = await start(RESUME, {});
  const handler = await session.messaging.addRequestHandler('a', () => 1);
  server.answer = ({ op, id }, connection) => op === 'handle_requests' && (connection.send(errorFrame(id, 301, 'as many as it may')), true);
  const refused = new Promise((resolve) => session.on('error', resolve));
  server.forgetSessions();
  assert.ok((await refused) instanceof tidewire.ListenerLimitError);
  assert.equal(handler.closed, true);
});

test('when the session is closed all is over', async () => {
  const [, asker, other] = await start({}, {}, {});
  let isAsked = false;
  const handler = await other.messaging.addRequestHandler('a', () => ((isAsked = true), new Promise(() => {})));
  const { heard, ...callbacks } = record();
  await asker.messaging.sendRequestToFilter('all', 'a', 1, callbacks);
  await until(() => isAsked && heard.length === 1);
  await asker.close();
  assert.deepEqual(heard.at(-1), [undefined, 'OutcomeUnknownError']);
  await other.close();
  assert.equal(handler.closed, true);
  await handler.close();
  await assert.rejects(asker.messaging.sendRequest('a', 1), tidewire.ConnectionError);
  await assert.rejects(asker.messaging.send('a', 1), tidewire.ConnectionError);
});

test('wrong arguments are not sent', async () => {
  const [server, { messaging }] = await start({}, {});
  const calls = [
    () => messaging.addRequestHandler('a'),
    () => messaging.addRequestHandler('a', () => 1, { sessionProperties: 'Tier' }),
    () => messaging.addRequestHandler('a', () => 1, { type: 'time_series' }),
    () => messaging.sendRequest('a', () => {}),
    () => messaging.sendRequest('a', 'x', { type: 'int64' }),
    () => messaging.sendRequest('a', 1, { timeoutMs: '5' }),
    () => messaging.sendRequest('a', 1, { responseType: 'text' }),
    () => messaging.sendRequestToSession(7, 'a', 1),
    () => messaging.sendRequestToFilter('all', 'a', 1, { onResponse: 1 }),
    () => messaging.send('a', undefined),
  ];
  for (const call of calls) await assert.rejects(call, TypeError);
  await assert.rejects(messaging.sendRequest('', 1), tidewire.InvalidPathError);
  await assert.rejects(messaging.send('a', 'x'.repeat(40_000)), tidewire.ValueTooLargeError);
  assert.deepEqual(server.received.map(({ op }) => op), ['connect']);
});

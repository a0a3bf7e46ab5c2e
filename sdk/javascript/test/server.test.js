// Every operation against a real server, where TIDEWIRE_URL names one that this test may fill and empty under `sdk-test/`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, IncompatibleTypeError, InvalidSelectorError, NoSuchTopicError, TopicExistsError, TopicType } from '../tidewire.js';

const url = process.env.TIDEWIRE_URL;
const ROOT = `sdk-test/${process.pid}`;

const VALUES = [
  ['json', { a: [1, 2.5, 'é', null, true] }, { a: [1, 2.5, 'é', null, false] }],
  ['string', 'héllo 😀', ''],
  ['int64', 9223372036854775807n, -5],
  ['double', 1.5, Infinity],
  ['binary', new Uint8Array([0, 255]), new Uint8Array()],
];

async function withSessions(count, body) {
  const sessions = await Promise.all(Array.from({ length: count }, () => connect(url, { reconnect: false, requestTimeoutMs: 10_000 })));
  try {
    await body(...sessions);
  } finally {
    await sessions[0].topics.remove(`?${ROOT}//`);
    await Promise.all(sessions.map((session) => session.close()));
  }
}

/** A stream's events, and a way to wait until there are so many. */
function record(session, selector, type) {
  const events = [];
  let check = () => {};
  const note = (event) => {
    events.push(event);
    check();
  };
  session.addStream(selector, type, {
    subscription: (path) => note(['subscription', path]),
    value: (path, _, value, oldValue) => note(['value', path, value, oldValue]),
    unsubscription: (path, _, reason) => note(['unsubscription', path, reason]),
    error: (error) => note(['error', error]),
  });
  const until = (count) =>
    new Promise((resolve) => {
      check = () => events.length >= count && resolve(events);
      check();
    });
  return { events, until };
}

test('a real server', { skip: url === undefined && 'TIDEWIRE_URL is not set' }, async (t) => {
  for (const [type, value, next] of VALUES) {
    await t.test(`${type}: one session writes, another reads`, () =>
      withSessions(2, async (writer, reader) => {
        const path = `${ROOT}/${type}`;
        const { until } = record(reader, path, type);
        assert.deepEqual(await writer.topics.add(path, type), { path, added: true });
        assert.deepEqual(await writer.topics.add(path, type), { path, added: false });
        assert.deepEqual(await reader.topics.fetch(path), { results: [{ path, type }], hasMore: false });
        await reader.subscribe(path);
        await writer.topics.set(path, value);
        assert.deepEqual(await writer.topics.addAndSet(path, type, next), { path, added: false });
        await until(3);
        assert.deepEqual((await reader.topics.fetch(path)).results, [{ path, type, value: next }]);
        assert.deepEqual(await writer.topics.remove(path), { removedCount: 1 });
        assert.deepEqual(await until(4), [
          ['subscription', path],
          ['value', path, value, undefined],
          ['value', path, next, value],
          ['unsubscription', path, 'removed'],
        ]);
      }),
    );
  }

  await t.test('refusals have their classes', () =>
    withSessions(1, async ({ topics }) => {
      await assert.rejects(topics.set(`${ROOT}/a`, 1, 'json'), NoSuchTopicError);
      await topics.add(`${ROOT}/a`, 'json');
      await assert.rejects(topics.add(`${ROOT}/a`, 'string'), TopicExistsError);
      await assert.rejects(topics.set(`${ROOT}/a`, 'x', 'string'), IncompatibleTypeError);
      await assert.rejects(topics.remove('?('), (error) => error instanceof InvalidSelectorError && error.position === 1);
    }),
  );

  await t.test('long values and small changes to them arrive', () =>
    withSessions(2, async (writer, reader) => {
      const path = `${ROOT}/long`;
      const rows = Array.from({ length: 300 }, (_, index) => ({ index, name: `row ${index}`, price: index * 1.25 }));
      await writer.topics.addAndSet(path, TopicType.JSON, rows);
      const { until, events } = record(reader, path, TopicType.JSON);
      await reader.subscribe(path);
      for (let step = 0; step < 20; step += 1) {
        rows[step * 7].price += 1;
        await writer.topics.set(path, rows);
        // Each is waited for, so that none is conflated away.
        await until(3 + step);
        assert.deepEqual(events.at(-1)[2], rows);
      }
    }),
  );

  await t.test('pages follow each other in path order', () =>
    withSessions(1, async ({ topics }) => {
      const paths = Array.from({ length: 25 }, (_, index) => `${ROOT}/page/${String(index).padStart(2, '0')}`);
      await Promise.all(paths.map((path, index) => topics.addAndSet(path, TopicType.INT64, index)));
      const first = await topics.fetch(`?${ROOT}/page/`, { first: 10, withValues: false });
      assert.deepEqual(first, { results: paths.slice(0, 10).map((path) => ({ path, type: 'int64' })), hasMore: true });
      const all = [];
      for await (const { path, value } of topics.fetchAll(`?${ROOT}/page/`, { first: 4 })) all.push([path, value]);
      assert.deepEqual(all, paths.map((path, index) => [path, index]));
      assert.deepEqual(await topics.remove(`?${ROOT}/page/`), { removedCount: 25 });
    }),
  );

  await t.test('selections are a sequence', () =>
    withSessions(2, async (writer, reader) => {
      const { events, until } = record(reader, `?${ROOT}/`, TopicType.JSON);
      await reader.subscribe(`?${ROOT}/`);
      await reader.unsubscribe(`?${ROOT}/hidden//`);
      await writer.topics.addAndSet(`${ROOT}/hidden/a`, TopicType.JSON, 1);
      await writer.topics.addAndSet(`${ROOT}/shown`, TopicType.JSON, 2);
      await until(2);
      await reader.unsubscribe(`?${ROOT}//`);
      assert.deepEqual(events, [
        ['subscription', `${ROOT}/shown`],
        ['value', `${ROOT}/shown`, 2, undefined],
        ['unsubscription', `${ROOT}/shown`, 'requested'],
      ]);
    }),
  );
});

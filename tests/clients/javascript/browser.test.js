// MQTT.js in a real browser against the real server, over WebSocket.
//
// TIDEWIRE_URL says where the server is. The browser is that of the tests beside these.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { launchBrowser } from '../../browser/demo.js';
import { Client, native, NATIVE_URL, URLS, withClients } from './client.js';

const LIBRARY = fileURLToPath(new URL('./node_modules/mqtt/dist/mqtt.min.js', import.meta.url));

let browser;

before(async () => {
  browser = await launchBrowser();
});

after(() => browser?.close());

/** A page of the server's own, in which `connect` and `next` are there for what is evaluated. */
async function openPage() {
  const page = await browser.newPage();
  await page.goto(NATIVE_URL.replace('ws:', 'http:') + '/health');
  await page.addScriptTag({ path: LIBRARY });
  await page.evaluate((url) => {
    globalThis.connect = (options) =>
      new Promise((resolve, reject) => {
        const client = mqtt.connect(url, { reconnectPeriod: 0, ...options });
        const messages = [];
        let wake = () => {};
        client.on('message', (topic, payload, packet) => {
          messages.push([topic, payload.toString(), packet.qos, packet.retain, packet.properties]);
          wake();
        });
        client.next = async () => {
          while (messages.length === 0) await new Promise((woken) => (wake = woken));
          return messages.shift();
        };
        client.once('connect', () => resolve(client)).once('error', reject);
      });
  }, URLS.websocket);
  return page;
}

for (const [name, protocolVersion] of [['3.1.1', 4], ['5', 5]]) {
  test(`MQTT ${name} in a page: messages of every QoS come and go`, async () => {
    const page = await openPage();
    const topic = `browser/${protocolVersion}`;
    const { session, next } = await native(`?${topic}/`);
    await withClients([Client.connect({ version: protocolVersion })], async (other) => {
      await other.subscribe(`${topic}/+`, { qos: 2 });
      // Who is subscribed to a topic as it is made has its value of that moment: from here on each is seen.
      await other.publish(`${topic}/page`, 'made', { qos: 1, retain: true });
      assert.deepEqual(await other.next(), [`${topic}/page`, 'made', 1, false]);
      assert.equal(new TextDecoder().decode((await next())[2]), 'made');
      const seen = await page.evaluate(
        async ([topic, protocolVersion]) => {
          const client = await connect({ protocolVersion });
          await client.subscribeAsync(`${topic}/+`, { qos: 2 });
          // What is retained.
          await client.next();
          const seen = [];
          for (const qos of [0, 1, 2]) {
            await client.publishAsync(`${topic}/page`, `QoS ${qos}`, { qos, retain: true });
            seen.push((await client.next()).slice(0, 4));
          }
          globalThis.client = client;
          return seen;
        },
        [topic, protocolVersion],
      );
      const expected = [0, 1, 2].map((qos) => [`${topic}/page`, `QoS ${qos}`, qos, false]);
      assert.deepEqual(seen, expected);
      for (const message of expected) {
        assert.deepEqual(await other.next(), message);
        const [path, type, value] = await next();
        assert.deepEqual([path, type, new TextDecoder().decode(value)], [`${topic}/page`, 'binary', message[1]]);
      }
      await session.topics.addAndSet(`${topic}/native`, 'json', { a: 1 });
      assert.deepEqual((await page.evaluate(() => client.next())).slice(0, 4), [`${topic}/native`, '{"a":1}', 2, false]);
      await other.publish(`${topic}/node`, 'from Node', { qos: 1 });
      assert.deepEqual((await page.evaluate(() => client.next())).slice(0, 4), [`${topic}/node`, 'from Node', 1, false]);
    });
    await session.close();
    await page.close();
  });

  test(`MQTT ${name} in a page: the will of a page that is closed is published`, async () => {
    const page = await openPage();
    await withClients([Client.connect()], async (watcher) => {
      await watcher.subscribe('browser/will', { qos: 1 });
      await page.evaluate(
        (protocolVersion) => connect({ protocolVersion, will: { topic: 'browser/will', payload: 'closed', qos: 1, retain: false } }).then(() => {}),
        protocolVersion,
      );
      await page.close();
      assert.deepEqual(await watcher.next(), ['browser/will', 'closed', 1, false]);
    });
  });
}

test('MQTT 5 in a page: a request finds its answer', async () => {
  const page = await openPage();
  await withClients([Client.connect()], async (answering) => {
    await answering.subscribe('browser/questions', { qos: 1 });
    const asked = page.evaluate(async () => {
      const client = await connect({ protocolVersion: 5 });
      await client.subscribeAsync('browser/answers', { qos: 1 });
      await client.publishAsync('browser/questions', 'how?', { qos: 1, properties: { responseTopic: 'browser/answers', userProperties: { a: ['1', '2'] } } });
      const [, payload, , , properties] = await client.next();
      return [payload, { ...properties.userProperties }];
    });
    const { properties } = (await answering.message()).packet;
    await answering.publish(properties.responseTopic, 'so', { qos: 1, properties: { userProperties: properties.userProperties } });
    assert.deepEqual(await asked, ['so', { a: ['1', '2'] }]);
  });
  await page.close();
});

// A client of MQTT.js whose events wait to be asked for, and a native session likewise.

import mqtt from 'mqtt';
import { connect as connectNatively } from '../../../sdk/javascript/tidewire.js';

export const NATIVE_URL = process.env.TIDEWIRE_URL;
export const URLS = { tcp: `mqtt://${process.env.TIDEWIRE_MQTT}`, websocket: `${NATIVE_URL}/mqtt` };
const VERSIONS = [3, 4, 5];
/** Bounds every wait; nothing takes nearly as long. */
const PATIENCE_MS = 30_000;

/** Every version of the protocol, by its number in CONNECT, over every transport. */
export const WAYS = VERSIONS.flatMap((version) => Object.keys(URLS).map((transport) => ({ version, transport, name: `${version}_${transport}` })));

/** What came and was not asked for yet, in order. */
class Queue {
  #items = [];
  #waiting = [];

  push(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((resolve, reject) => {
      const bound = setTimeout(() => reject(new Error('nothing came')), PATIENCE_MS);
      this.#waiting.push((item) => {
        clearTimeout(bound);
        resolve(item);
      });
    });
  }
}

export class Client {
  #messages = new Queue();
  #disconnects = new Queue();

  constructor(client) {
    this.mqtt = client;
    client.on('message', (topic, payload, packet) => this.#messages.push({ topic, payload, packet }));
    client.on('disconnect', (packet) => this.#disconnects.push(packet));
    // A connection that ends is what some tests are about.
    client.on('error', () => {});
  }

  /** Connects, and keeps the CONNACK. `options` are those of MQTT.js. */
  static async connect({ version = 5, transport = 'tcp' } = {}, options = {}) {
    const protocolId = version === 3 ? 'MQIsdp' : 'MQTT';
    const client = mqtt.connect(URLS[transport], { protocolVersion: version, protocolId, reconnectPeriod: 0, ...options });
    const wrapped = new Client(client);
    wrapped.connack = await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject));
    return wrapped;
  }

  subscribe(filter, options) {
    return this.mqtt.subscribeAsync(filter, options);
  }

  publish(topic, payload, options) {
    return this.mqtt.publishAsync(topic, payload, options);
  }

  message() {
    return this.#messages.next();
  }

  /** Topic, payload, QoS and RETAIN of the next message. */
  async next() {
    const { topic, payload, packet } = await this.message();
    return [topic, payload.toString(), packet.qos, packet.retain];
  }

  nextDisconnect() {
    return this.#disconnects.next();
  }

  end() {
    return this.mqtt.endAsync();
  }

  /** Ends the connection without a word, as a cable that is cut. */
  lose() {
    const closed = new Promise((resolve) => this.mqtt.once('close', resolve));
    this.mqtt.stream.destroy();
    return closed;
  }
}

/** A native session; `next` gives the path, type and value of the next value of what it is subscribed to. */
export async function native(selector) {
  const session = await connectNatively(NATIVE_URL, { reconnect: false });
  const values = new Queue();
  for (const type of ['json', 'string', 'int64', 'double', 'binary']) {
    const value = (path, specification, value) => specification.type === type && values.push([path, type, value]);
    session.addStream(selector, type, { value });
  }
  await session.subscribe(selector);
  return { session, next: () => values.next() };
}

/** Runs `body` with clients, and ends them behind it. */
export async function withClients(clients, body) {
  const connected = await Promise.all(clients);
  try {
    await body(...connected);
  } finally {
    await Promise.all(connected.map((client) => client.end()));
  }
}

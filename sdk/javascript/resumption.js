/**
 * What a session needs to outlive its connection: its token, and how many messages of the server's it has processed.
 *
 * The server keeps what it sent until it is told that it was processed, and sends only so much before it is. So it is told in time, at a quarter of
 * that, and otherwise a second later.
 *
 * @module
 */

/** After the first message that the server was not told of. */
const SAY_MS = 1_000;

export class Resumption {
  #say;
  #sayAtBytes;
  #processed = 0;
  #unsaidBytes = 0;
  #unsaidSince = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {string} token
   * @param {number} recoveryBytesMax what the server sends at most before it is told
   * @param {(messages: number) => void} say sends PROCESSED
   */
  constructor(token, recoveryBytesMax, say) {
    this.token = token;
    this.#sayAtBytes = recoveryBytesMax / 4;
    this.#say = say;
  }

  /** Messages that were processed since the session began. CONNECT says it. */
  get processed() {
    return this.#processed;
  }

  /**
   * A message has been handed to the application, all of it.
   *
   * @param {number} bytes its length
   */
  note(bytes) {
    this.#processed += 1;
    this.#unsaidBytes += bytes;
    if (this.#timer === undefined) {
      this.#unsaidSince = performance.now();
      this.#timer = setTimeout(() => this.#tell(), SAY_MS);
      // It is no reason for Node to go on.
      if (typeof this.#timer === 'object') this.#timer.unref?.();
    }
    // A page in the background gets few timers, but its messages as ever.
    if (this.#unsaidBytes >= this.#sayAtBytes || performance.now() - this.#unsaidSince >= SAY_MS) this.#tell();
  }

  /** The connection is lost: the next one's CONNECT tells. */
  pause() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unsaidBytes = 0;
  }

  #tell() {
    this.pause();
    this.#say(this.#processed);
  }
}

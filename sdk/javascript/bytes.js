/**
 * Writing and reading the protocol's integers and strings.
 *
 * Integers are unsigned LEB128 of at most 64 bits. They are numbers up to `Number.MAX_SAFE_INTEGER` and bigints above, so
 * that one value always has one form and may be the key of a `Map`.
 *
 * @module
 */

import { ProtocolError } from './errors.js';

const encoder = new TextEncoder();
// A string that starts with U+FEFF keeps it: it is part of the text.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const U64_MAX = 0xffff_ffff_ffff_ffffn;
/** Nine groups of seven bits, and one bit more: what a tenth byte may hold. */
const VARINT_BYTES_MAX = 10;

/**
 * @param {string} text
 * @returns {Uint8Array}
 */
export function encodeUtf8(text) {
  return encoder.encode(text);
}

/**
 * @param {Uint8Array} bytes
 * @returns {string}
 * @throws {ProtocolError} where they are not UTF-8
 */
export function decodeUtf8(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new ProtocolError('expected UTF-8 text from the server');
  }
}

/** A buffer that grows and is used again and again. */
export class Writer {
  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(capacity);
    this.length = 0;
  }

  /** A copy of what was written; the writer is empty afterwards. */
  take() {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    return taken;
  }

  /** @param {number} value */
  u8(value) {
    this.#reserve(1);
    this.bytes[this.length++] = value;
  }

  /** @param {number | bigint} value */
  varint(value) {
    this.#reserve(VARINT_BYTES_MAX);
    if (typeof value === 'bigint') {
      if (value < 0n || value > U64_MAX) throw new RangeError(`expected an integer of 64 bits, found ${value}`);
      while (value > 0x7fn) {
        this.bytes[this.length++] = Number(value & 0x7fn) | 0x80;
        value >>= 7n;
      }
      this.bytes[this.length++] = Number(value);
      return;
    }
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`expected an integer of at least 0, found ${value}`);
    while (value > 0x7f) {
      this.bytes[this.length++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    this.bytes[this.length++] = value;
  }

  /** @param {Uint8Array} value */
  raw(value) {
    this.#reserve(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
  }

  /**
   * A string with its length before it.
   *
   * @param {string} text
   */
  string(text) {
    const most = text.length * 3;
    if (most > 0x7f) {
      const bytes = encoder.encode(text);
      this.varint(bytes.length);
      this.raw(bytes);
      return;
    }
    // The length surely takes one byte, so the text can be encoded in place behind it.
    this.#reserve(most + 1);
    const { written } = encoder.encodeInto(text, this.bytes.subarray(this.length + 1));
    this.bytes[this.length] = written;
    this.length += written + 1;
  }

  /** Starts something whose length goes before it. @returns {number} what `endSized` wants */
  beginSized() {
    this.u8(0);
    return this.length;
  }

  /**
   * Puts the length of what was written since `start` before it.
   *
   * @param {number} start
   */
  endSized(start) {
    let length = this.length - start;
    let extra = 0;
    for (let rest = length; rest > 0x7f; rest = Math.floor(rest / 0x80)) extra += 1;
    if (extra > 0) {
      this.#reserve(extra);
      this.bytes.copyWithin(start + extra, start, this.length);
    }
    const end = this.length + extra;
    this.length = start - 1;
    this.varint(length);
    this.length = end;
  }

  /** @param {number} count */
  #reserve(count) {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }
}

/** A place in bytes, and an end that nothing is read behind. Every method throws a {@link ProtocolError} there. */
export class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.position = 0;
    this.end = bytes.length;
  }

  u8() {
    if (this.position >= this.end) throw overrun();
    return this.bytes[this.position++];
  }

  /** @returns {number | bigint} */
  varint() {
    let byte = this.u8();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let scale = 0x80;
    // Seven bytes are 49 bits, which a number holds exactly.
    for (let index = 1; index < 7; index += 1) {
      byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    return this.#longVarint(value);
  }

  /** A varint that has to be a length, a count or a code: an integer that a number holds. @returns {number} */
  size() {
    const value = this.varint();
    if (typeof value === 'bigint') throw new ProtocolError(`expected a length or a number from the server, found ${value}`);
    return value;
  }

  /** As many bytes as asked for, as a view. @param {number} length */
  take(length) {
    if (length > this.end - this.position) throw overrun();
    const start = this.position;
    this.position += length;
    return this.bytes.subarray(start, this.position);
  }

  /** What is left, as a view. */
  rest() {
    return this.take(this.end - this.position);
  }

  /** What is left, as bytes of its own, which do not keep the whole message in memory. */
  copyRest() {
    const copy = this.bytes.slice(this.position, this.end);
    this.position = this.end;
    return copy;
  }

  string() {
    return decodeUtf8(this.take(this.size()));
  }

  get more() {
    return this.position < this.end;
  }

  /** @param {number} low the first seven bytes' value */
  #longVarint(low) {
    let value = BigInt(low);
    for (let index = 7n; index < VARINT_BYTES_MAX; index += 1n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << (7n * index);
      if (value > U64_MAX) break;
      if (byte < 0x80) return value > BigInt(Number.MAX_SAFE_INTEGER) ? value : Number(value);
    }
    throw new ProtocolError('expected an integer of at most 64 bits from the server');
  }
}

function overrun() {
  return new ProtocolError('expected more bytes from the server: a frame or field ends early');
}

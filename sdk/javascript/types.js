/**
 * The types of topics, and their values as bytes.
 *
 * | type | in JavaScript |
 * |---|---|
 * | JSON | whatever `JSON.stringify` takes and `JSON.parse` gives |
 * | STRING | a string |
 * | INT64 | a number where it is a safe integer, else a bigint; both are accepted |
 * | DOUBLE | a number |
 * | BINARY | a `Uint8Array`; any view and `ArrayBuffer` are accepted |
 *
 * STRING, INT64 and DOUBLE topics can also be set to `null`, which is no value. A TIME_SERIES topic has events, whose values are of
 * one of these types.
 *
 * @module
 */

import { decodeUtf8, encodeUtf8 } from './bytes.js';
import { InvalidPathError, ProtocolError } from './errors.js';

/** @typedef {'json' | 'string' | 'int64' | 'double' | 'binary'} DataTypeName the types of values */
/** @typedef {DataTypeName | 'time_series'} TopicTypeName */

/**
 * What a topic is: its type and its properties.
 *
 * @typedef {object} TopicSpecification
 * @property {TopicTypeName} type
 * @property {Readonly<Record<string, string>>} [properties] by the names of `TopicProperty`; those unknown to the server are ignored, malformed
 *   values refused (211)
 */

/** The types of topics. */
export const TopicType = Object.freeze({
  /** @type {'json'} */ JSON: 'json',
  /** @type {'string'} */ STRING: 'string',
  /** @type {'int64'} */ INT64: 'int64',
  /** @type {'double'} */ DOUBLE: 'double',
  /** @type {'binary'} */ BINARY: 'binary',
  /** @type {'time_series'} */ TIME_SERIES: 'time_series',
});

/** The types of values: what streams read, and what the events of a time series hold. */
export const DataType = Object.freeze({
  /** @type {'json'} */ JSON: 'json',
  /** @type {'string'} */ STRING: 'string',
  /** @type {'int64'} */ INT64: 'int64',
  /** @type {'double'} */ DOUBLE: 'double',
  /** @type {'binary'} */ BINARY: 'binary',
});

/** The names of topic properties; `sdk/protocol/README.md` says what each means and which values it has. */
export const TopicProperty = Object.freeze({
  PUBLISH_VALUES_ONLY: 'PUBLISH_VALUES_ONLY',
  DONT_RETAIN_VALUE: 'DONT_RETAIN_VALUE',
  VALIDATE_VALUES: 'VALIDATE_VALUES',
  TIDY_ON_UNSUBSCRIBE: 'TIDY_ON_UNSUBSCRIBE',
  CONFLATION: 'CONFLATION',
  COMPRESSION: 'COMPRESSION',
  PRIORITY: 'PRIORITY',
  PERSISTENT: 'PERSISTENT',
  OWNER: 'OWNER',
  REMOVAL: 'REMOVAL',
  TIME_SERIES_EVENT_VALUE_TYPE: 'TIME_SERIES_EVENT_VALUE_TYPE',
  TIME_SERIES_RETAINED_RANGE: 'TIME_SERIES_RETAINED_RANGE',
  TIME_SERIES_SUBSCRIPTION_RANGE: 'TIME_SERIES_SUBSCRIPTION_RANGE',
});

/** @type {ReadonlyArray<TopicTypeName | undefined>} */
const NAMES = [undefined, 'json', 'string', 'int64', 'double', 'binary', 'time_series'];

const NUMBERS = new Map(NAMES.map((name, number) => [name, number]));

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

const loneSurrogate = /\p{Surrogate}/u;
/** A control character that is no white space. */
const control = /(?![\t\n\r])\p{Control}/u;
const scratch = new DataView(new ArrayBuffer(8));

/**
 * The name of the type of that number; undefined for one that only a newer server knows.
 *
 * @param {number} number
 * @returns {TopicTypeName | undefined}
 */
export function typeName(number) {
  return NAMES[number];
}

/**
 * @param {TopicTypeName} name
 * @returns {number}
 */
export function typeNumber(name) {
  return /** @type {number} */ (NUMBERS.get(checkType(name)));
}

/**
 * @param {unknown} type
 * @returns {TopicTypeName}
 * @throws {TypeError}
 */
export function checkType(type) {
  if (typeof type === 'string' && NUMBERS.has(/** @type {TopicTypeName} */ (type))) return /** @type {TopicTypeName} */ (type);
  throw new TypeError(`expected a topic type, such as TopicType.JSON ('json'), found ${show(type)}`);
}

/**
 * @param {unknown} type
 * @returns {DataTypeName}
 * @throws {TypeError}
 */
export function checkDataType(type) {
  const checked = checkType(type);
  if (checked !== 'time_series') return checked;
  throw new TypeError("expected a type of values, such as DataType.JSON ('json'), found 'time_series'");
}

/**
 * A type, or a specification as it stands.
 *
 * @param {unknown} specification
 * @returns {Required<TopicSpecification>}
 * @throws {TypeError}
 */
export function checkSpecification(specification) {
  if (typeof specification !== 'object' || specification === null) return { type: checkType(specification), properties: {} };
  const { type, properties = {} } = /** @type {TopicSpecification} */ (specification);
  if (typeof properties !== 'object' || properties === null) {
    throw new TypeError(`expected the topic's properties as an object, found ${show(properties)}`);
  }
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value !== 'string') throw new TypeError(`expected the topic property ${key} as a string, found ${show(value)}`);
  }
  return { type: checkType(type), properties };
}

/**
 * The type of the values that a topic of the specification is set to: its own, or that of its events.
 *
 * @param {TopicSpecification} specification
 * @returns {DataTypeName | undefined} undefined where a time series does not name a type known here
 */
export function valueType({ type, properties = {} }) {
  if (type !== 'time_series') return type;
  const named = NUMBERS.has(/** @type {any} */ (properties.TIME_SERIES_EVENT_VALUE_TYPE)) && properties.TIME_SERIES_EVENT_VALUE_TYPE;
  return named && named !== 'time_series' ? /** @type {DataTypeName} */ (named) : undefined;
}

/**
 * Whether who reads one type can read values of another: its own, and as JSON also STRING, INT64 and DOUBLE.
 *
 * @param {DataTypeName} reading
 * @param {TopicTypeName | undefined} found
 */
export function canRead(reading, found) {
  return reading === found || (reading === 'json' && (found === 'string' || found === 'int64' || found === 'double'));
}

/**
 * Whether it means no value, which STRING, INT64 and DOUBLE topics can be set to.
 *
 * @param {DataTypeName} type
 * @param {unknown} value
 */
export function isNoValue(type, value) {
  return value === null && (type === 'string' || type === 'int64' || type === 'double');
}

/**
 * @param {DataTypeName} type
 * @param {unknown} value
 * @returns {Uint8Array}
 * @throws {TypeError | RangeError} where the value is not one of the type
 */
export function encodeValue(type, value) {
  switch (type) {
    case 'json':
      return encodeJson(value);
    case 'string':
      return encodeUtf8(checkText(value, 'a STRING value'));
    case 'int64':
      scratch.setBigInt64(0, checkInt64(value));
      return new Uint8Array(scratch.buffer.slice(0));
    case 'double':
      if (typeof value !== 'number') throw new TypeError(`expected a number as DOUBLE value, found ${show(value)}`);
      scratch.setFloat64(0, value);
      return new Uint8Array(scratch.buffer.slice(0));
    case 'binary':
      return checkBinary(value);
  }
}

/**
 * @param {DataTypeName} type
 * @param {Uint8Array} bytes
 * @returns {any}
 * @throws {ProtocolError} where they are not a value of the type
 */
export function decodeValue(type, bytes) {
  switch (type) {
    case 'json':
      try {
        return JSON.parse(decodeUtf8(bytes));
      } catch (cause) {
        throw new ProtocolError('expected JSON as the value of a JSON topic', { cause });
      }
    case 'string':
      return decodeUtf8(bytes);
    case 'int64': {
      const value = view8(bytes).getBigInt64(0);
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
    case 'double':
      return view8(bytes).getFloat64(0);
    case 'binary':
      // A copy, for the caller may write in it and the next delta needs the bytes as they were.
      return bytes.slice();
  }
}

/**
 * The text that a BINARY value is, as the payloads of most clients of MQTT are: UTF-8, and no control characters but white space. Undefined for
 * other bytes, and for none.
 *
 * @param {Uint8Array} bytes
 * @returns {string | undefined}
 */
export function textOf(bytes) {
  try {
    const text = decodeUtf8(bytes);
    return text === '' || control.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/**
 * The type that a value of unknown purpose can only be, or undefined.
 *
 * @param {unknown} value
 * @returns {DataTypeName | undefined}
 */
export function evidentType(value) {
  if (typeof value === 'bigint') return 'int64';
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return 'binary';
  if (typeof value === 'object' || typeof value === 'boolean') return 'json';
  return undefined;
}

/**
 * @param {unknown} path
 * @param {number} bytesMax
 * @returns {string}
 * @throws {TypeError | InvalidPathError}
 */
export function checkPath(path, bytesMax) {
  const text = checkText(path, 'a topic path');
  /** @type {(index: number, problem: string) => never} */
  const refuse = (index, problem) => {
    throw new InvalidPathError(`${show(text)} is no topic path: ${problem}`, { position: encodeUtf8(text.slice(0, index)).length });
  };
  if (text === '') refuse(0, 'it is empty');
  if (text.startsWith('/')) refuse(0, 'it starts with a slash');
  if (text.includes('//')) refuse(text.indexOf('//') + 1, 'a segment is empty');
  if (text.endsWith('/')) refuse(text.length - 1, 'it ends with a slash');
  // No character takes more than three bytes for each unit of its length.
  if (text.length * 3 > bytesMax && encodeUtf8(text).length > bytesMax) refuse(0, `it is longer than ${bytesMax} bytes`);
  return text;
}

/**
 * @param {unknown} text
 * @param {string} what
 * @returns {string}
 * @throws {TypeError}
 */
export function checkText(text, what) {
  if (typeof text !== 'string') throw new TypeError(`expected a string as ${what}, found ${show(text)}`);
  if (loneSurrogate.test(text)) throw new TypeError(`expected well-formed text as ${what}, found a lone surrogate`);
  return text;
}

/**
 * A short form of anything, for messages.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function show(value) {
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 60)}…` : value}'`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  return String(value);
}

/** @param {unknown} value */
function encodeJson(value) {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`expected a JSON value, found ${show(value)}`);
  return encodeUtf8(text);
}

/** @param {unknown} value */
function checkInt64(value) {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new RangeError(`expected a safe integer or a bigint as INT64 value, found ${value}`);
    return BigInt(value);
  }
  if (typeof value !== 'bigint') throw new TypeError(`expected an integer or a bigint as INT64 value, found ${show(value)}`);
  if (value < INT64_MIN || value > INT64_MAX) throw new RangeError(`expected an integer of 64 bits as INT64 value, found ${value}`);
  return value;
}

/** @param {unknown} value */
function checkBinary(value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  throw new TypeError(`expected a Uint8Array, another view or an ArrayBuffer as BINARY value, found ${show(value)}`);
}

/** @param {Uint8Array} bytes */
function view8(bytes) {
  if (bytes.length !== 8) throw new ProtocolError(`expected 8 bytes as the value of an INT64 or DOUBLE topic, found ${bytes.length}`);
  return new DataView(bytes.buffer, bytes.byteOffset, 8);
}

/**
 * Errors: one class for each numbered error of the protocol, and three for what can befall a connection.
 *
 * The numbers and names are those of `sdk/protocol/codes.json`. Arguments of the wrong JavaScript type are plain
 * `TypeError`s and `RangeError`s, thrown before anything is sent.
 *
 * @module
 */

/**
 * What an error may carry beside its message.
 *
 * @typedef {object} ErrorDetail
 * @property {number} [code] the protocol's number, or a close code for errors of the connection
 * @property {number} [position] the byte offset in the text that the error is about
 * @property {unknown} [cause]
 */

/** Anything that the server refused or that went wrong with the connection. */
export class TidewireError extends Error {
  /**
   * @param {string} message
   * @param {ErrorDetail} [detail]
   */
  constructor(message, detail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = new.target.className;
    /** The protocol's number, or a close code for errors of the connection; 0 where there is none. */
    this.code = detail.code ?? 0;
    /** The byte offset in the text that the error is about, where known. */
    this.position = detail.position;
  }

  /** The class's name, which survives a minifier. */
  static className = 'TidewireError';
}

/** A numbered error of the protocol. Its `code` is that of its class. */
export class RequestError extends TidewireError {
  /**
   * @param {string} message
   * @param {ErrorDetail} [detail]
   */
  constructor(message, detail = {}) {
    super(message, { ...detail, code: new.target.code || detail.code });
  }

  static className = 'RequestError';
  static code = 0;
  /** The error's name in `codes.json`. */
  static codeName = '';
}

/** 100: a frame that the server could not read. */
export class MalformedFrameError extends RequestError {
  static className = 'MalformedFrameError';
  static code = 100;
  static codeName = 'malformed_frame';
}

/** 101: an operation that the server does not know. */
export class UnknownOperationError extends RequestError {
  static className = 'UnknownOperationError';
  static code = 101;
  static codeName = 'unknown_operation';
}

/** 102: something came before CONNECT. */
export class NotConnectedError extends RequestError {
  static className = 'NotConnectedError';
  static code = 102;
  static codeName = 'not_connected';
}

/** 103: a second CONNECT. */
export class AlreadyConnectedError extends RequestError {
  static className = 'AlreadyConnectedError';
  static code = 103;
  static codeName = 'already_connected';
}

/** 104: client and server have no protocol version in common. */
export class UnsupportedVersionError extends RequestError {
  static className = 'UnsupportedVersionError';
  static code = 104;
  static codeName = 'unsupported_version';
}

/** 105: a message of the text form that is not a JSON object. */
export class MalformedJsonError extends RequestError {
  static className = 'MalformedJsonError';
  static code = 105;
  static codeName = 'malformed_json';
}

/** 106: a missing or wrong field in the text form. */
export class InvalidFieldError extends RequestError {
  static className = 'InvalidFieldError';
  static code = 106;
  static codeName = 'invalid_field';
}

/** 200: a topic path that breaks a rule of paths. */
export class InvalidPathError extends RequestError {
  static className = 'InvalidPathError';
  static code = 200;
  static codeName = 'invalid_path';
}

/** 201: a topic selector that does not parse. */
export class InvalidSelectorError extends RequestError {
  static className = 'InvalidSelectorError';
  static code = 201;
  static codeName = 'invalid_selector';
}

/** 202: no topic at the path. */
export class NoSuchTopicError extends RequestError {
  static className = 'NoSuchTopicError';
  static code = 202;
  static codeName = 'no_such_topic';
}

/** 203: a topic with another specification stands at the path. */
export class TopicExistsError extends RequestError {
  static className = 'TopicExistsError';
  static code = 203;
  static codeName = 'topic_exists';
}

/** 204: the value's type is not the topic's. */
export class IncompatibleTypeError extends RequestError {
  static className = 'IncompatibleTypeError';
  static code = 204;
  static codeName = 'incompatible_type';
}

/** 205: the value is not of its type. */
export class InvalidValueError extends RequestError {
  static className = 'InvalidValueError';
  static code = 205;
  static codeName = 'invalid_value';
}

/** 206: the value is longer than the server takes. */
export class ValueTooLargeError extends RequestError {
  static className = 'ValueTooLargeError';
  static code = 206;
  static codeName = 'value_too_large';
}

/** 207: no such topic type. */
export class UnknownTypeError extends RequestError {
  static className = 'UnknownTypeError';
  static code = 207;
  static codeName = 'unknown_type';
}

/** 208: a property, scope or option that the server does not support. */
export class UnsupportedPropertyError extends RequestError {
  static className = 'UnsupportedPropertyError';
  static code = 208;
  static codeName = 'unsupported_property';
}

/** 209: the path is set aside for the server. */
export class ReservedPathError extends RequestError {
  static className = 'ReservedPathError';
  static code = 209;
  static codeName = 'reserved_path';
}

/** 210: the server holds as many topics as it may. */
export class TopicLimitError extends RequestError {
  static className = 'TopicLimitError';
  static code = 210;
  static codeName = 'topic_limit';
}

/** 300: the session has as many selections as it may. */
export class SelectionLimitError extends RequestError {
  static className = 'SelectionLimitError';
  static code = 300;
  static codeName = 'selection_limit';
}

/** 400: the server cannot take the request now; it changed nothing. */
export class OverloadedError extends RequestError {
  static className = 'OverloadedError';
  static code = 400;
  static codeName = 'overloaded';
}

/** 401: the server is stopping; it changed nothing. */
export class ShuttingDownError extends RequestError {
  static className = 'ShuttingDownError';
  static code = 401;
  static codeName = 'shutting_down';
}

/**
 * There is no connection: it could not be made, it was lost, or the session is closed. `code` is the close code.
 *
 * What became of a request that was under way is not known, unless `sent` is false.
 */
export class ConnectionError extends TidewireError {
  /**
   * @param {string} message
   * @param {ErrorDetail & { sent?: boolean }} [detail]
   */
  constructor(message, detail = {}) {
    super(message, detail);
    /** False where the request surely never left this client. */
    this.sent = detail.sent ?? false;
  }

  static className = 'ConnectionError';
}

/** No answer in time. What became of the request is not known. */
export class TimeoutError extends TidewireError {
  static className = 'TimeoutError';
}

/** The server sent bytes that break the protocol. The connection is closed (4100) and made anew. */
export class ProtocolError extends TidewireError {
  static className = 'ProtocolError';
}

/** Every numbered error, in the order of `codes.json`. */
export const REQUEST_ERRORS = Object.freeze([
  MalformedFrameError,
  UnknownOperationError,
  NotConnectedError,
  AlreadyConnectedError,
  UnsupportedVersionError,
  MalformedJsonError,
  InvalidFieldError,
  InvalidPathError,
  InvalidSelectorError,
  NoSuchTopicError,
  TopicExistsError,
  IncompatibleTypeError,
  InvalidValueError,
  ValueTooLargeError,
  UnknownTypeError,
  UnsupportedPropertyError,
  ReservedPathError,
  TopicLimitError,
  SelectionLimitError,
  OverloadedError,
  ShuttingDownError,
]);

const classOfCode = new Map(REQUEST_ERRORS.map((type) => [type.code, type]));

/**
 * The error of an ERROR frame. A number that this client does not know makes a plain {@link RequestError}.
 *
 * @param {number} code
 * @param {string} message
 * @param {number} [position]
 * @returns {RequestError}
 */
export function requestError(code, message, position) {
  const type = classOfCode.get(code) ?? RequestError;
  return new type(message, { code, position });
}

/** Close codes of the WebSocket and what they mean. */
export const CloseCode = Object.freeze({
  NORMAL: 1000,
  SHUTTING_DOWN: 1001,
  WEBSOCKET_ERROR: 1002,
  WRONG_MESSAGE_KIND: 1003,
  /** Never sent: the connection ended without a close. */
  ABNORMAL: 1006,
  INVALID_UTF8: 1007,
  MESSAGE_TOO_LARGE: 1009,
  MALFORMED_MESSAGE: 4100,
  UNSUPPORTED_VERSION: 4101,
  CONNECT_TIMEOUT: 4102,
  KEEP_ALIVE_TIMEOUT: 4103,
  SEND_QUEUE_OVERFLOW: 4104,
});

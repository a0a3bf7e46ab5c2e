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

/** Events of a time series came while there was no connection, and the server does not keep them any more. */
export class MissedEventsError extends TidewireError {
  /**
   * @param {string} path
   * @param {number} first sequence
   * @param {number} last sequence
   */
  constructor(path, first, last) {
    super(`events ${first} to ${last} of ${path} came while there was no connection, and cannot be had any more`);
    this.path = path;
    /** The sequence of the first event that was missed. */
    this.first = first;
    /** That of the last. */
    this.last = last;
  }

  static className = 'MissedEventsError';
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

/** 107: the session of the token is over. The client begins a new one by itself. */
export class CannotResumeError extends RequestError {
  static className = 'CannotResumeError';
  static code = 107;
  static codeName = 'cannot_resume';
}

/** 108: client and server do not agree on how many messages the session was sent. */
export class InvalidCountError extends RequestError {
  static className = 'InvalidCountError';
  static code = 108;
  static codeName = 'invalid_count';
}

/** 109: there is no such principal, or what was shown for it is not right. */
export class AuthenticationFailedError extends RequestError {
  static className = 'AuthenticationFailedError';
  static code = 109;
  static codeName = 'authentication_failed';
}

/** 110: the session's roles do not permit it; the message names the permission that is missing, and where. It stays so until the roles, or what they permit, change. */
export class AccessDeniedError extends RequestError {
  static className = 'AccessDeniedError';
  static code = 110;
  static codeName = 'access_denied';
}

/** 111: a script that does not parse, or that cannot be applied; the message names the line and column. Nothing of it was applied. */
export class InvalidScriptError extends RequestError {
  static className = 'InvalidScriptError';
  static code = 111;
  static codeName = 'invalid_script';
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

/** 208: an option that the server does not support, or one that does not go with the others. */
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

/** 211: a topic property's value is malformed, or one that the type needs is missing. */
export class InvalidPropertyError extends RequestError {
  static className = 'InvalidPropertyError';
  static code = 211;
  static codeName = 'invalid_property';
}

/** 212: the update's constraint does not hold; nothing changed. */
export class UnsatisfiedConstraintError extends RequestError {
  static className = 'UnsatisfiedConstraintError';
  static code = 212;
  static codeName = 'unsatisfied_constraint';
}

/** 213: the constraint does not parse, or contradicts itself. */
export class InvalidConstraintError extends RequestError {
  static className = 'InvalidConstraintError';
  static code = 213;
  static codeName = 'invalid_constraint';
}

/** 214: the JSON patch does not parse. */
export class InvalidPatchError extends RequestError {
  static className = 'InvalidPatchError';
  static code = 214;
  static codeName = 'invalid_patch';
}

/** 215: an operation of the JSON patch cannot be applied; nothing changed. */
export class FailedPatchError extends RequestError {
  static className = 'FailedPatchError';
  static code = 215;
  static codeName = 'failed_patch';

  /** Which operation of the patch it was, from 0. */
  get operationIndex() {
    return this.position;
  }
}

/** 216: a scope's name starts with `$` or is too long. */
export class InvalidScopeError extends RequestError {
  static className = 'InvalidScopeError';
  static code = 216;
  static codeName = 'invalid_scope';
}

/** 220: there is no such update stream, or it is not valid any more. */
export class InvalidStreamError extends RequestError {
  static className = 'InvalidStreamError';
  static code = 220;
  static codeName = 'invalid_stream';
}

/** 221: the session has an update stream of this number. */
export class StreamInUseError extends RequestError {
  static className = 'StreamInUseError';
  static code = 221;
  static codeName = 'stream_in_use';
}

/** 222: the timestamp is earlier than the latest event's. */
export class InvalidTimestampError extends RequestError {
  static className = 'InvalidTimestampError';
  static code = 222;
  static codeName = 'invalid_timestamp';
}

/** 223: no retained event has this sequence. */
export class NoSuchEventError extends RequestError {
  static className = 'NoSuchEventError';
  static code = 223;
  static codeName = 'no_such_event';
}

/** 224: the event is an edit, which cannot be edited: edit the original. */
export class EventIsEditError extends RequestError {
  static className = 'EventIsEditError';
  static code = 224;
  static codeName = 'event_is_edit';
}

/** 225: a range of a query is malformed. */
export class InvalidQueryError extends RequestError {
  static className = 'InvalidQueryError';
  static code = 225;
  static codeName = 'invalid_query';
}

/** 226: the timestamp is too far ahead of the server's clock. */
export class TimestampAheadError extends RequestError {
  static className = 'TimestampAheadError';
  static code = 226;
  static codeName = 'timestamp_ahead';
}

/** 230: no view has this name. */
export class NoSuchViewError extends RequestError {
  static className = 'NoSuchViewError';
  static code = 230;
  static codeName = 'no_such_view';
}

/** 231: the view's definition does not parse: the message says line and column, `position` is the byte offset in it. Or its name is malformed. */
export class InvalidViewError extends RequestError {
  static className = 'InvalidViewError';
  static code = 231;
  static codeName = 'invalid_view';
}

/** 232: the server holds as many views as it may. */
export class ViewLimitError extends RequestError {
  static className = 'ViewLimitError';
  static code = 232;
  static codeName = 'view_limit';
}

/** 233: the view would make topics that it, or a view that it feeds, maps again. */
export class CyclicViewError extends RequestError {
  static className = 'CyclicViewError';
  static code = 233;
  static codeName = 'cyclic_view';
}

/** 234: a view makes the topic; only what it is derived from can be updated. */
export class ReadOnlyTopicError extends RequestError {
  static className = 'ReadOnlyTopicError';
  static code = 234;
  static codeName = 'read_only_topic';
}

/** 300: the session has as many selections as it may. */
export class SelectionLimitError extends RequestError {
  static className = 'SelectionLimitError';
  static code = 300;
  static codeName = 'selection_limit';
}

/** 301: the session has as many listeners, or update streams, as it may. */
export class ListenerLimitError extends RequestError {
  static className = 'ListenerLimitError';
  static code = 301;
  static codeName = 'listener_limit';
}

/** 302: the session has no listener of this number, or one of another kind. */
export class NoSuchListenerError extends RequestError {
  static className = 'NoSuchListenerError';
  static code = 302;
  static codeName = 'no_such_listener';
}

/** 310: nobody handles requests to the path; of a session or filter, that session does not. Nobody was given the request. */
export class NoHandlerError extends RequestError {
  static className = 'NoHandlerError';
  static code = 310;
  static codeName = 'no_handler';
}

/** 311: no response came in time. Whether the request was carried out is not known. */
export class RequestTimeoutError extends RequestError {
  static className = 'RequestTimeoutError';
  static code = 311;
  static codeName = 'request_timeout';
}

/** 312: the handler's session ended before it answered. Whether the request was carried out is not known. */
export class HandlerGoneError extends RequestError {
  static className = 'HandlerGoneError';
  static code = 312;
  static codeName = 'handler_gone';
}

/** 313: the only handler has no connection now. Nobody was given the request. */
export class HandlerAwayError extends RequestError {
  static className = 'HandlerAwayError';
  static code = 313;
  static codeName = 'handler_away';
}

/** 314: the only handler does not keep up. Nobody was given the request. */
export class HandlerBusyError extends RequestError {
  static className = 'HandlerBusyError';
  static code = 314;
  static codeName = 'handler_busy';
}

/** 315: the handler rejects the request; the message is its own. */
export class RejectedError extends RequestError {
  static className = 'RejectedError';
  static code = 315;
  static codeName = 'rejected';
}

/** 316: nobody waits for the response any more. */
export class NoSuchRequestError extends RequestError {
  static className = 'NoSuchRequestError';
  static code = 316;
  static codeName = 'no_such_request';
}

/** 317: there is no session of this id. */
export class NoSuchSessionError extends RequestError {
  static className = 'NoSuchSessionError';
  static code = 317;
  static codeName = 'no_such_session';
}

/** 318: the session filter does not parse. */
export class InvalidFilterError extends RequestError {
  static className = 'InvalidFilterError';
  static code = 318;
  static codeName = 'invalid_filter';
}

/** 319: a session property's key or value breaks its rules, or there are too many. */
export class InvalidSessionPropertyError extends RequestError {
  static className = 'InvalidSessionPropertyError';
  static code = 319;
  static codeName = 'invalid_session_property';
}

/** 320: the session holds and waits for as many locks as it may. */
export class LockLimitError extends RequestError {
  static className = 'LockLimitError';
  static code = 320;
  static codeName = 'lock_limit';
}

/** 321: the lock is not waited for any more: the connection of which it was to be released was lost. */
export class LockLostError extends RequestError {
  static className = 'LockLostError';
  static code = 321;
  static codeName = 'lock_lost';
}

/** 336: the session answered before all that the filter means were asked, when too much waited already: the request was carried out, its answer is lost. */
export class ResponseLostError extends RequestError {
  static className = 'ResponseLostError';
  static code = 336;
  static codeName = 'response_lost';
}

/** 325: a row of a branch mapping table is wrong. The message says which; the position is that in its filter or branch. */
export class InvalidBranchMappingError extends RequestError {
  static className = 'InvalidBranchMappingError';
  static code = 325;
  static codeName = 'invalid_branch_mapping';
}

/** 326: there would be more branch mapping tables, rows or text of them than the server allows. */
export class SessionTreeLimitError extends RequestError {
  static className = 'SessionTreeLimitError';
  static code = 326;
  static codeName = 'session_tree_limit';
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

/** 410: the server cannot store the update now. It may be in memory, and is stored when the disk works again. */
export class StorageUnavailableError extends RequestError {
  static className = 'StorageUnavailableError';
  static code = 410;
  static codeName = 'storage_unavailable';
}

/** 420: the update was not made, since no server could decide on it: too few of those that hold the topic reach each other. */
export class NoQuorumError extends RequestError {
  static className = 'NoQuorumError';
  static code = 420;
  static codeName = 'no_quorum';
}

/** 421: the update may have been made, or may be yet: the servers that hold the topic could not be reached in time to tell. */
export class UpdateUnknownError extends RequestError {
  static className = 'UpdateUnknownError';
  static code = 421;
  static codeName = 'update_unknown';
}

/**
 * There is no connection: it could not be made, it was lost, or the session is closed. `code` is the close code.
 *
 * Where `sent` is false the request surely never left this client; one whose fate is not known has an {@link OutcomeUnknownError}.
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

/**
 * Very many clients connect at once, and the server begins sessions evenly, or it cannot say now who the client is: this one is to come again when `retryAfterMs` milliseconds have passed. `connect` waits and
 * does so by itself, unless `reconnect` is false.
 */
export class ComeLaterError extends ConnectionError {
  /**
   * @param {string} message
   * @param {ErrorDetail & { retryAfterMs: number }} detail
   */
  constructor(message, detail) {
    super(message, detail);
    this.retryAfterMs = detail.retryAfterMs;
  }

  static className = 'ComeLaterError';
}

/**
 * The session ended before the request was answered. It may have been carried out or not, and nobody can tell any more: who has to know looks at
 * what it was to change.
 */
export class OutcomeUnknownError extends ConnectionError {
  /**
   * @param {string} message
   * @param {ErrorDetail} [detail]
   */
  constructor(message, detail = {}) {
    super(message, { ...detail, sent: true });
  }

  static className = 'OutcomeUnknownError';
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
  CannotResumeError,
  InvalidCountError,
  AuthenticationFailedError,
  AccessDeniedError,
  InvalidScriptError,
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
  InvalidPropertyError,
  UnsatisfiedConstraintError,
  InvalidConstraintError,
  InvalidPatchError,
  FailedPatchError,
  InvalidScopeError,
  InvalidStreamError,
  StreamInUseError,
  InvalidTimestampError,
  NoSuchEventError,
  EventIsEditError,
  InvalidQueryError,
  TimestampAheadError,
  NoSuchViewError,
  InvalidViewError,
  ViewLimitError,
  CyclicViewError,
  ReadOnlyTopicError,
  SelectionLimitError,
  ListenerLimitError,
  NoSuchListenerError,
  NoHandlerError,
  RequestTimeoutError,
  HandlerGoneError,
  HandlerAwayError,
  HandlerBusyError,
  RejectedError,
  NoSuchRequestError,
  NoSuchSessionError,
  InvalidFilterError,
  InvalidSessionPropertyError,
  LockLimitError,
  LockLostError,
  InvalidBranchMappingError,
  SessionTreeLimitError,
  ResponseLostError,
  OverloadedError,
  ShuttingDownError,
  StorageUnavailableError,
  NoQuorumError,
  UpdateUnknownError,
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
  SESSION_TAKEN_OVER: 4105,
  /** Another session has closed this one; the reason is its own. */
  CLOSED_BY_CONTROL: 4106,
  /** Very many clients connect at once, or the server cannot say now who the client is: no session begins now. */
  COME_LATER: 4107,
  /** The client may not connect as it said, or what it has shown is worth nothing any more. */
  AUTHENTICATION_FAILED: 4108,
});

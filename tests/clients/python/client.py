"""A client of paho-mqtt whose callbacks become queues to wait on."""

import os
import queue
import socket

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 30
VERSIONS = [mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5]
TRANSPORTS = ["tcp", "websockets"]


def properties(packet, **values):
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def of_message(**values):
    return properties(PacketTypes.PUBLISH, **values)


class Client:
    """Connected from the start, and until the end of the `with` block. `server` begins the names that say in the environment where it is."""

    def __init__(
        self, version=mqtt.MQTTv5, transport="tcp", client_id="", session_expiry_s=None, will=None, server="TIDEWIRE", **connect_properties
    ):
        self._connected = queue.Queue()
        self._subscribed = queue.Queue()
        self._acknowledged = queue.Queue()
        self._messages = queue.Queue()
        self._disconnected = queue.Queue()
        is_v5 = version == mqtt.MQTTv5
        # In MQTT 3.x a session lasts or not; in MQTT 5 so many seconds.
        clean = {} if is_v5 else {"clean_session": session_expiry_s is None}
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            transport=transport,
            reconnect_on_failure=False,
            **clean,
        )
        self.paho.max_inflight_messages_set(100)
        self.paho.on_connect = lambda _client, _data, flags, reason, props: self._connected.put((flags, reason, props))
        self.paho.on_subscribe = lambda _client, _data, _id, reasons, _props: self._subscribed.put(reasons)
        self.paho.on_publish = lambda _client, _data, _id, reason, props: self._acknowledged.put((reason, props))
        self.paho.on_message = lambda _client, _data, message: self._messages.put(message)
        self.paho.on_disconnect = lambda _client, _data, _flags, reason, props: self._disconnected.put((reason, props))
        if will is not None:
            self.paho.will_set(**will)
        if transport == "websockets":
            host, port = os.environ[f"{server}_URL"].removeprefix("ws://").split(":")
            self.paho.ws_set_options(path="/mqtt")
        else:
            host, port = os.environ[f"{server}_MQTT"].split(":")
        further = {}
        if is_v5:
            if session_expiry_s is not None:
                connect_properties["SessionExpiryInterval"] = session_expiry_s
            further = {"clean_start": session_expiry_s is None, "properties": properties(PacketTypes.CONNECT, **connect_properties)}
        self.paho.connect(host, int(port), **further)
        self.paho.loop_start()
        flags, reason, self.connack = self._connected.get(timeout=PATIENCE_S)
        assert not reason.is_failure, reason
        self.session_present = flags.session_present

    def subscribe(self, *arguments, **further):
        """Subscribes; the reasons in numbers."""
        self.paho.subscribe(*arguments, **further)
        return [reason.value for reason in self._subscribed.get(timeout=PATIENCE_S)]

    def publish(self, topic, payload=None, qos=1, **further):
        """Publishes; the reason in SUBACK or PUBREC as a number, and its properties."""
        self.paho.publish(topic, payload, qos, **further)
        reason, props = self._acknowledged.get(timeout=PATIENCE_S)
        return reason.value, props

    def message(self):
        return self._messages.get(timeout=PATIENCE_S)

    def next(self):
        """Topic, payload, QoS and RETAIN of the next message."""
        message = self.message()
        return message.topic, message.payload.decode(), message.qos, message.retain

    def next_disconnect(self):
        reason, props = self._disconnected.get(timeout=PATIENCE_S)
        return reason.value, props

    def lose(self):
        """Ends the connection without a word, as a cable that is cut."""
        connection = self.paho.socket()
        # Of a WebSocket it is the one beneath.
        getattr(connection, "_socket", connection).shutdown(socket.SHUT_RDWR)
        self._disconnected.get(timeout=PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

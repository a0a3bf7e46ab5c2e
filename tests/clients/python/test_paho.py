"""paho-mqtt against the real server: MQTT 3.1, 3.1.1 and 5, over TCP and over WebSocket, among itself and with native sessions.

TIDEWIRE_URL and TIDEWIRE_MQTT say where the server is, TIDEWIRE_BIN is its binary; GUARDED_URL and GUARDED_MQTT where one is at which nobody may subscribe to
`test/nosubscribe`, which is what the interoperability tests of paho call the topic that they are refused. The last line is the count of tests.
"""

import base64
import itertools
import sys
import unittest

from client import TRANSPORTS, VERSIONS, Client, of_message, properties
from native import Watch, tidewire
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

WAYS = list(itertools.product(VERSIONS, TRANSPORTS))


class Messages(unittest.TestCase):
    def test_a_message_of_any_version_transport_and_qos_reaches_every_other(self):
        subscribers = [(qos, Client(version, transport)) for version, transport in WAYS for qos in range(3)]
        for qos, subscriber in subscribers:
            self.assertEqual(subscriber.subscribe("paho/any/+", qos), [qos])
        for version, transport in WAYS:
            with Client(version, transport) as publisher:
                for qos in range(3):
                    payload = f"{version} {transport} {qos}"
                    self.assertEqual(publisher.publish("paho/any/a", payload, qos)[0], 0)
                    for granted, subscriber in subscribers:
                        self.assertEqual(subscriber.next(), ("paho/any/a", payload, min(qos, granted), False))
        for _, subscriber in subscribers:
            subscriber.__exit__()

    def test_many_messages_under_way_at_once_keep_their_order(self):
        for version, transport in WAYS:
            with self.subTest(version=version, transport=transport), Client(version, transport) as client:
                client.subscribe("paho/many", 2)
                for number in range(300):
                    client.paho.publish("paho/many", str(number), 1 + number % 2)
                received = [client.next()[1] for _ in range(300)]
                # QoS 1 and QoS 2 are each in order; only within a QoS there is one.
                for remainder in range(2):
                    numbers = [number for number in map(int, received) if number % 2 == remainder]
                    self.assertEqual(numbers, list(range(remainder, 300, 2)))

    def test_a_long_payload_arrives_whole(self):
        payload = bytes(range(256)) * 900
        for version, transport in WAYS:
            with self.subTest(version=version, transport=transport), Client(version, transport) as client:
                client.subscribe("paho/long", 1)
                client.publish("paho/long", payload, 1)
                self.assertEqual(client.message().payload, payload)

    def test_a_retained_message_stays_until_an_empty_one_clears_it(self):
        for version, transport in WAYS:
            topic = f"paho/kept/{version}/{transport}"
            with self.subTest(topic=topic), Client(version, transport) as client:
                client.publish(topic, "kept", 1, retain=True)
                client.subscribe(topic, 1)
                self.assertEqual(client.next(), (topic, "kept", 1, True))
                client.publish(topic, None, 1, retain=True)
                self.assertEqual(client.next(), (topic, "", 1, False))
                client.subscribe(topic, 1)
                client.publish(topic, "end", 1)
                self.assertEqual(client.next(), (topic, "end", 1, False))

    def test_a_group_shares_what_comes_to_its_filter(self):
        members = [Client(version, transport) for version, transport in WAYS]
        for member in members:
            self.assertEqual(member.subscribe("$share/paho/paho/shared/#", 1), [1])
        with Client() as publisher:
            for number in range(2 * len(members)):
                publisher.publish("paho/shared/a", str(number), 1)
        received = [member.next()[1] for member in members for _ in range(2)]
        self.assertEqual(sorted(map(int, received)), list(range(2 * len(members))))
        for member in members:
            member.__exit__()


class Sessions(unittest.TestCase):
    def test_the_will_of_a_lost_client_is_published(self):
        with Client() as watcher, Watch("paho/will") as native:
            watcher.subscribe("paho/will/+", 2)
            for version, transport in WAYS:
                topic = f"paho/will/{version}_{transport}"
                lost = Client(version, transport, will={"topic": topic, "payload": "lost", "qos": 1, "retain": True})
                lost.lose()
                self.assertEqual(watcher.next(), (topic, "lost", 1, False))
                self.assertEqual(native.next_value()[0], topic)

    def test_the_will_of_a_client_that_leaves_is_not(self):
        with Client() as watcher:
            watcher.subscribe("paho/left/#", 1)
            for version, transport in WAYS:
                with Client(version, transport, will={"topic": f"paho/left/{version}", "payload": "left", "qos": 1}):
                    pass
            watcher.publish("paho/left/end", "end", 1)
            self.assertEqual(watcher.next()[1], "end")

    def test_a_will_has_properties(self):
        with Client() as watcher:
            watcher.subscribe("paho/willing", 1)
            made = properties(PacketTypes.WILLMESSAGE, ContentType="text/plain", ResponseTopic="a/b", UserProperty=[("a", "1"), ("a", "2")])
            lost = Client(will={"topic": "paho/willing", "payload": "lost", "qos": 1, "properties": made})
            lost.lose()
            message = watcher.message()
            self.assertEqual(message.properties.ContentType, "text/plain")
            self.assertEqual(message.properties.ResponseTopic, "a/b")
            self.assertEqual(message.properties.UserProperty, [("a", "1"), ("a", "2")])

    def test_a_session_waits_for_its_client(self):
        for version, transport in WAYS:
            name = f"paho-away-{version}-{transport}"
            with self.subTest(name=name), Client() as publisher:
                with Client(version, transport, name, session_expiry_s=300) as client:
                    self.assertFalse(client.session_present)
                    client.subscribe(name, 2)
                for qos in range(3):
                    publisher.publish(name, str(qos), qos)
                with Client(version, transport, name, session_expiry_s=300) as client:
                    # MQTT 3.1 has no such flag.
                    self.assertEqual(client.session_present, version != mqtt.MQTTv31)
                    self.assertEqual([client.next()[1:3] for _ in range(2)], [("1", 1), ("2", 2)])
                with Client(version, transport, name) as client:
                    self.assertFalse(client.session_present)

    def test_the_same_client_identifier_again_ends_the_first_connection(self):
        for version, transport in WAYS:
            with self.subTest(version=version, transport=transport):
                first = Client(version, transport, "paho-twice")
                with Client(version, transport, "paho-twice"):
                    reason, _ = first.next_disconnect()
                if version == mqtt.MQTTv5:
                    self.assertEqual(reason, 0x8E)
                first.__exit__()


class OfMqtt5(unittest.TestCase):
    def test_a_request_finds_its_answer(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport), Client(transport=transport) as asking, Client(transport=transport) as answering:
                answering.subscribe("paho/questions", 1)
                asking.subscribe("paho/answers/+", 1)
                made = of_message(ResponseTopic="paho/answers/7", CorrelationData=b"\x00\xff", UserProperty=[("b", "1"), ("a", "é"), ("b", "1")])
                asking.publish("paho/questions", "how?", 1, properties=made)
                question = answering.message().properties
                self.assertEqual(question.UserProperty, [("b", "1"), ("a", "é"), ("b", "1")])
                answering.publish(question.ResponseTopic, "so", 1, properties=of_message(CorrelationData=question.CorrelationData))
                answer = asking.message()
                self.assertEqual((answer.topic, answer.payload), ("paho/answers/7", b"so"))
                self.assertEqual(answer.properties.CorrelationData, b"\x00\xff")

    def test_a_topic_alias_stands_for_its_topic_in_both_directions(self):
        with Client(TopicAliasMaximum=5) as client:
            self.assertGreater(client.connack.TopicAliasMaximum, 1)
            client.subscribe("paho/alias/+", 1)
            names = {}
            for number, topic in enumerate(["paho/alias/a", "paho/alias/b"], start=1):
                client.publish(topic, "first", 1, properties=of_message(TopicAlias=number))
                client.publish("", "again", 1, properties=of_message(TopicAlias=number))
                for payload in [b"first", b"again"]:
                    message = client.message()
                    # paho leaves it to the application to remember what the server's aliases stand for.
                    alias = getattr(message.properties, "TopicAlias", None)
                    name = message.topic or names[alias]
                    if alias is not None:
                        self.assertLessEqual(alias, 5)
                        names[alias] = name
                    self.assertEqual((name, message.payload), (topic, payload))

    def test_subscriptions_have_options(self):
        with Client() as client, Client() as other:
            other.publish("paho/options/kept", "kept", 1, retain=True)
            options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            client.subscribe("paho/options/+", options=options)
            client.publish("paho/options/own", "own", 1)
            other.publish("paho/options/kept", "newer", 1, retain=True)
            self.assertEqual(client.next(), ("paho/options/kept", "newer", 1, True))

    def test_a_message_names_the_subscriptions_that_brought_it(self):
        with Client() as client:
            for number, topic_filter in [(3, "paho/numbered/#"), (268435455, "paho/numbered/a")]:
                made = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=number)
                client.subscribe(topic_filter, options=SubscribeOptions(qos=1), properties=made)
            client.publish("paho/numbered/a", "x", 1)
            self.assertEqual(sorted(client.message().properties.SubscriptionIdentifier), [3, 268435455])
            client.publish("paho/numbered/b", "x", 1)
            self.assertEqual(client.message().properties.SubscriptionIdentifier, [3])

    def test_no_packet_is_longer_than_the_client_takes(self):
        with Client(MaximumPacketSize=100) as client, Client() as other:
            client.subscribe("paho/short", 1)
            other.publish("paho/short", "x" * 200, 1)
            other.publish("paho/short", "short", 1)
            self.assertEqual(client.next()[1], "short")

    def test_a_filter_that_is_none_is_refused_beside_others_that_are(self):
        with Client() as client:
            self.assertEqual(client.subscribe([("paho/fine", SubscribeOptions(qos=2)), ("$share/g", SubscribeOptions(qos=1))]), [2, 0x8F])


class AccessControl(unittest.TestCase):
    def test_a_topic_that_may_not_be_subscribed_to_is_refused(self):
        for version, transport in WAYS:
            # MQTT 5 has a word for why.
            refused = 0x87 if version == mqtt.MQTTv5 else 0x80
            with self.subTest(version=version, transport=transport), Client(version, transport, server="GUARDED") as client:
                self.assertEqual(client.subscribe("test/nosubscribe", 2), [refused])
                self.assertEqual(client.subscribe("test/nosubscribe/#", 0), [refused])
                filters = [("test/other", 1), ("test/nosubscribe", 1), ("test/+", 2)]
                if version == mqtt.MQTTv5:
                    filters = [(topic_filter, SubscribeOptions(qos=qos)) for topic_filter, qos in filters]
                self.assertEqual(client.subscribe(filters), [1, refused, 2])

    def test_a_filter_finds_what_may_be_read_alone(self):
        for version, transport in WAYS:
            with self.subTest(version=version, transport=transport), Client(version, transport, server="GUARDED") as client:
                for topic_filter in ["test/+", "#"]:
                    self.assertEqual(client.subscribe(topic_filter, 1), [1])
                for topic in ["test/nosubscribe", "test/nosubscribe/a", "test/other"]:
                    self.assertEqual(client.publish(topic, "x", 1)[0], 0)
                    self.assertEqual(client.publish(topic, "y", 1, retain=True)[0], 0)
                # A message of several filters may come once.
                heard = {client.next()[:2] for _ in range(2)}
                self.assertEqual(heard, {("test/other", "x"), ("test/other", "y")})
                client.publish("test/other", None, 1, retain=True)
                self.assertEqual(client.next()[:2], ("test/other", ""))


class NativeSessions(unittest.TestCase):
    def test_what_is_published_reaches_them(self):
        with Watch("paho/to_native") as native:
            for (version, transport), retain in itertools.product(WAYS, [False, True]):
                topic = f"paho/to_native/{version}/{transport}/{retain}"
                with Client(version, transport) as client:
                    client.publish(topic, "bytes", 2, retain=retain)
                self.assertEqual(native.next_value()[:2], (topic, "binary"))
            with Client() as client:
                # What a message says of its payload binds no other.
                for payload, properties in (('{ "a": 1 }', of_message(ContentType="application/json")), ("é", of_message(PayloadFormatIndicator=1))):
                    client.publish("paho/to_native/said", payload, 1, properties=properties)
                    expected = base64.b64encode(payload.encode()).decode()
                    self.assertEqual(native.next_value(), ("paho/to_native/said", "binary", expected))

    def test_what_they_set_arrives_as_payload(self):
        values = {"json": '{"a":[1,2.5]}', "string": "é", "int64": "-9223372036854775808", "double": "0.1"}
        clients = [Client(version, transport) for version, transport in WAYS]
        for client in clients:
            client.subscribe("paho/from_native/+", 2)
        for kind, value in values.items():
            topic = f"paho/from_native/{kind}"
            tidewire("set", topic, value, "--type", kind)
            for client in clients:
                self.assertEqual(client.next(), (topic, value, 2, False))
        for client in clients:
            client.__exit__()
        with Client() as late:
            late.subscribe("paho/from_native/+", 0)
            self.assertEqual(dict(late.next()[:2] for _ in values), {f"paho/from_native/{kind}": value for kind, value in values.items()})

    def test_a_payload_that_does_not_fit_their_topic_is_refused(self):
        with Client() as client, Watch("paho/typed") as native:
            tidewire("set", "paho/typed/a", "5", "--type", "int64")
            self.assertEqual(native.next_value(), ("paho/typed/a", "int64", 5))
            # Of QoS 2 paho does not tell: it releases what was refused, and shows the answer to that.
            reason, props = client.publish("paho/typed/a", "five", 1, retain=True)
            self.assertEqual(reason, 0x99)
            self.assertIn("int64", props.ReasonString)
            self.assertEqual(client.publish("paho/typed/a", "6", 2, retain=True)[0], 0)
            self.assertEqual(native.next_value(), ("paho/typed/a", "int64", 6))


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    print(f"# pass {result.testsRun - len(result.failures) - len(result.errors) - len(result.skipped)}")
    sys.exit(not result.wasSuccessful())

//! Eclipse Mosquitto with a bridge to the server, in each version of MQTT that it has for bridges.

use crate::mosquitto::{Bridge, Subscriber, publish};
use crate::relay::Relay;
use crate::server::Server;

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv50"];

const STATES: &str = "$SYS/broker/connection/+/state";

/// A server, and a broker whose bridge to it stands and has subscribed to what it takes from there.
fn connected(version: &str) -> (Server, Relay, Bridge) {
    let server = Server::start_with_mqtt(2, &[]);
    let relay = Relay::to(server.mqtt.expect("it serves MQTT"));
    for topic in ["in/ready", "both/ready"] {
        publish(&server, "mqttv311", &["-t", topic, "-q", "1", "-r", "-m", "ready"]);
    }
    let bridge = Bridge::start(relay.address, version, &["in/# in 1", "out/# out 1", "both/# both 1"]);
    wait_for(&bridge, "in/ready");
    wait_for(&bridge, "both/ready");
    (server, relay, bridge)
}

/// What is retained at the topic comes, if not at once.
fn wait_for(bridge: &Bridge, topic: &str) {
    Subscriber::start_unheard(bridge, "mqttv311", &["-t", topic, "-q", "1"]).next();
}

/// So many messages, sorted: topics have no order among each other.
fn take(subscriber: &Subscriber, count: usize) -> Vec<String> {
    let mut messages: Vec<String> = (0..count).map(|_| subscriber.next()).collect();
    messages.sort();
    messages
}

#[test]
fn messages_cross_a_bridge_once_in_each_direction() {
    for version in VERSIONS {
        let (server, _relay, bridge) = connected(version);
        let filters = ["-t", "in/+", "-t", "out/+", "-t", "both/+", "-q", "1", "-R"];
        let (on_server, on_bridge) = (Subscriber::start(&server, "mqttv5", &filters), Subscriber::start(&bridge, "mqttv5", &filters));
        // What stays on its side.
        publish(&server, "mqttv311", &["-t", "out/stays", "-q", "1", "-m", "0"]);
        publish(&bridge, "mqttv311", &["-t", "in/stays", "-q", "1", "-m", "0"]);
        for payload in ["1", "2", "3"] {
            for topic in ["in/a", "both/server"] {
                publish(&server, "mqttv311", &["-t", topic, "-q", "1", "-m", payload]);
            }
            for topic in ["out/a", "both/bridge"] {
                publish(&bridge, "mqttv311", &["-t", topic, "-q", "1", "-m", payload]);
            }
        }
        let expected = |stays: &str| {
            let topics = ["in/a", "both/server", "out/a", "both/bridge"].iter();
            let crossing = topics.flat_map(|topic| ["1", "2", "3"].map(|payload| format!("{topic} 1 0 {payload}")));
            let mut expected: Vec<String> = crossing.chain([format!("{stays} 1 0 0")]).collect();
            expected.sort();
            expected
        };
        assert_eq!(take(&on_server, 13), expected("out/stays"), "{version}: {}", bridge.log());
        assert_eq!(take(&on_bridge, 13), expected("in/stays"), "{version}: {}", bridge.log());
        // What came round would come before this, which is of the same topic and goes the same way.
        publish(&bridge, "mqttv311", &["-t", "both/server", "-q", "1", "-m", "end"]);
        publish(&server, "mqttv311", &["-t", "both/bridge", "-q", "1", "-m", "end"]);
        for subscriber in [&on_server, &on_bridge] {
            assert_eq!(take(subscriber, 2), ["both/bridge 1 0 end", "both/server 1 0 end"], "{version}: {}", bridge.log());
        }
    }
}

#[test]
fn what_is_retained_is_retained_behind_a_bridge_too() {
    for version in VERSIONS {
        let (server, _relay, bridge) = connected(version);
        publish(&server, "mqttv311", &["-t", "in/kept", "-q", "1", "-r", "-m", "of the server"]);
        publish(&server, "mqttv311", &["-t", "both/kept", "-q", "1", "-r", "-m", "of the server"]);
        publish(&bridge, "mqttv311", &["-t", "out/kept", "-q", "1", "-r", "-m", "of the bridge"]);
        publish(&bridge, "mqttv311", &["-t", "both/other", "-q", "1", "-r", "-m", "of the bridge"]);
        for topic in ["in/kept", "both/kept"] {
            wait_for(&bridge, topic);
            Subscriber::start_unheard(&bridge, "mqttv311", &["-t", topic, "-q", "1"]).expect(&format!("{topic} 1 1 of the server"));
        }
        for topic in ["out/kept", "both/other"] {
            // The first may be the message itself, on its way.
            Subscriber::start_unheard(&server, "mqttv311", &["-t", topic, "-q", "1"]).next();
            Subscriber::start_unheard(&server, "mqttv311", &["-t", topic, "-q", "1"]).expect(&format!("{topic} 1 1 of the bridge"));
        }
    }
}

#[test]
fn a_bridge_that_was_cut_off_goes_on() {
    for version in VERSIONS {
        let (server, relay, bridge) = connected(version);
        let states = Subscriber::start_unheard(&server, "mqttv5", &["-t", STATES, "-q", "1"]);
        assert!(states.next().ends_with("/state 1 1 1"), "{version}: the bridge stands");
        let on_bridge = Subscriber::start(&bridge, "mqttv311", &["-t", "in/+", "-t", "both/+", "-q", "1", "-R"]);
        let on_server = Subscriber::start(&server, "mqttv311", &["-t", "out/+", "-q", "1", "-R"]);
        relay.cut();
        assert!(states.next().ends_with("/state 1 0 0"), "{version}: the bridge's will");
        publish(&bridge, "mqttv311", &["-t", "out/a", "-q", "1", "-m", "meanwhile"]);
        relay.mend(server.mqtt.expect("it serves MQTT"));
        assert!(states.next().ends_with("/state 1 0 1"), "{version}: the bridge stands again");
        on_server.expect("out/a 1 0 meanwhile");
        // It subscribes again, and so is sent again what is retained, of two shards in any order: behind that it has subscribed.
        let retained = ["in/ready 1 0 ready", "both/ready 1 0 ready"];
        let mut awaited = retained.to_vec();
        while !awaited.is_empty() {
            let message = on_bridge.next();
            awaited.retain(|awaited| *awaited != message);
        }
        publish(&server, "mqttv311", &["-t", "in/a", "-q", "1", "-m", "end"]);
        // At least once: where the cut has taken its acknowledgement along, what was retained comes twice.
        let next = std::iter::repeat_with(|| on_bridge.next()).find(|message| !retained.contains(&&**message));
        assert_eq!(next.as_deref(), Some("in/a 1 0 end"));
    }
}

#[test]
fn what_came_while_a_bridge_was_cut_off_waits_for_it() {
    // That of MQTT 5 does not ask for its session to outlive its connection.
    for version in &VERSIONS[..2] {
        let (server, relay, bridge) = connected(version);
        let on_bridge = Subscriber::start(&bridge, "mqttv311", &["-t", "in/+", "-q", "1", "-R"]);
        let states = Subscriber::start_unheard(&server, "mqttv5", &["-t", STATES, "-q", "1"]);
        assert!(states.next().ends_with("/state 1 1 1"), "{version}: the bridge stands");
        relay.cut();
        assert!(states.next().ends_with("/state 1 0 0"), "{version}: the bridge's will");
        publish(&server, "mqttv311", &["-t", "in/a", "-q", "1", "-m", "meanwhile"]);
        relay.mend(server.mqtt.expect("it serves MQTT"));
        while on_bridge.next() != "in/a 1 0 meanwhile" {}
    }
}
